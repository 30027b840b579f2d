"""Indexes that several workers describe: those of one process to the last bit, whoever dies."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr import cli
from keras_ctxattr.jobs import JobError, Workers
from keras_ctxattr.search import ImageIndex, index_photographs, spreading
from keras_ctxattr.search.store import IndexStore
from tests.clustering.concepts import write_concepts
from tests.jobs.deadly import DeadlyJob

LOCAL = Workers(num_workers=2, start_seconds=120, silent_seconds=120)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=48)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def here(photographs, module, tmp_path_factory):
    """Gives the index that this process made alone."""
    target = tmp_path_factory.mktemp("indexes") / "index"
    assert index_photographs([str(photographs)], target, module).described == 48
    return target


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def workers(request):
    """Gives the settings of each engine; Ray is started once."""
    if request.param == "local":
        yield LOCAL
        return
    pytest.importorskip("ray")
    from keras_ctxattr.jobs.rays import ray_session

    settings = dataclasses.replace(LOCAL, engine="ray")
    with ray_session(settings):
        yield settings


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Cuts these few files into units enough for all workers."""
    monkeypatch.setattr(spreading, "_UNIT_FILES", 6)


def contents(index):
    """Gives all that an index holds, ids and their order with it."""
    opened = ImageIndex(index)
    images = opened.store.images(opened.ids)
    named = [(i, images[i].name, images[i].digest, images[i].height) for i in opened.ids.tolist()]
    columns = (np.asarray(values).tobytes() for values in (opened.codes, opened.scores()))
    return named, *columns, opened.vectors().tobytes(), opened.store.skipped()


def test_workers_make_the_index_of_one_process_to_the_last_bit(
    here, photographs, module, tmp_path, workers
):
    told = []
    index = tmp_path / "index"
    made = index_photographs(
        [str(photographs)], index, module, workers=workers, progress=lambda *n: told.append(n)
    )
    assert (made.described, made.skipped) == (48, 1)
    assert contents(index) == contents(here)
    assert told == [(done, 50) for done in range(1, 51)]


def test_known_bytes_are_copied_and_changed_files_described(photographs, module, tmp_path, workers):
    folder = Path(shutil.copytree(photographs, tmp_path / "photos"))
    one, two = tmp_path / "one", tmp_path / "two"
    index_photographs([str(folder)], one, module)
    shutil.copytree(one, two)
    paths = sorted(folder.rglob("*.png"))
    paths[1].rename(folder / "renamed.png")
    paths[2].write_bytes(paths[3].read_bytes()[:-20] + b"\0" * 20)  # other bytes, undecodable
    shutil.copy(paths[4], folder / "again.png")
    os.utime(paths[5], (1, 1))
    alone = index_photographs([str(folder)], one, module)
    spread = index_photographs([str(folder)], two, module, workers=workers)
    assert spread == alone and alone.copied == 3
    assert contents(two) == contents(one)
    nothing = index_photographs([str(folder)], two, module, workers=workers)
    assert (nothing.described, nothing.copied) == (0, 0)


def test_a_killed_worker_loses_and_doubles_nothing(
    here, photographs, module, tmp_path, workers, monkeypatch
):
    (tmp_path / "marks").mkdir()
    deadly = {"name": "0020.png", "marks": tmp_path / "marks"}
    monkeypatch.setattr(spreading, "DescribeJob", lambda **options: DeadlyJob(**options, **deadly))
    index = tmp_path / "index"
    index_photographs([str(photographs)], index, module, workers=workers)
    assert len(list((tmp_path / "marks").iterdir())) == 1
    assert contents(index) == contents(here)


def test_a_file_that_ends_every_worker_is_one_line_and_the_others_are_kept(
    here, photographs, module, tmp_path, monkeypatch
):
    (tmp_path / "marks").mkdir()
    deadly = {"name": "0045.png", "marks": tmp_path / "marks", "times": 2}  # in concept3
    index = tmp_path / "index"
    with monkeypatch.context() as patched:
        patched.setattr(spreading, "DescribeJob", lambda **options: DeadlyJob(**options, **deadly))
        with pytest.raises(JobError, match=r"concept3/\d+\.png.*lost 2 workers") as caught:
            index_photographs(
                [str(photographs)],
                index,
                module,
                workers=dataclasses.replace(LOCAL, tries=2),
            )
    assert "\n" not in str(caught.value)
    kept = {image.name for image in IndexStore(index).all_images()}
    assert kept and kept < {name for _, name, *_ in contents(here)[0]}
    index_photographs([str(photographs)], index, module, workers=LOCAL)
    assert contents(index) == contents(here)


def test_a_module_without_attributes_is_refused_before_any_worker_starts(photographs, tmp_path):
    from keras_ctxattr.backbones import small
    from keras_ctxattr.export import export_module

    plain = export_module(small(width=8, num_features=16), tmp_path / "plain")
    with pytest.raises(ValueError, match="must have attributes"):
        index_photographs([str(photographs)], tmp_path / "index", plain, workers=LOCAL)
    assert not (tmp_path / "index").exists()


def test_the_command_takes_engine_and_workers(
    here, photographs, module, tmp_path, monkeypatch, capfd
):
    index = tmp_path / "index"
    base = ["ctxattr", "index", str(photographs), "--module", str(module), "--out", str(index)]

    def run(*flags):
        monkeypatch.setattr(sys, "argv", [*base, *flags])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, capfd.readouterr()

    code, told = run("--engine", "beam")
    assert code == 2 and "`engine` must be local or ray" in told.err
    code, told = run("--workers", "0")
    assert code == 2 and "--workers" in told.err
    code, told = run("--address", "auto")
    assert code == 2 and "set the engine to ray" in told.err and not index.exists()
    code, told = run("--workers", "2")
    assert code == 0 and "48 described" in told.out
    assert "tensorflow" not in told.err.lower() and "oneDNN" not in told.err
    assert contents(index) == contents(here)
