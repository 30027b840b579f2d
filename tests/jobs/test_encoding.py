"""Tables of codes: what is in them, resumed, shared, damaged; whoever does the work."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr import cli
from keras_ctxattr.backbones import small
from keras_ctxattr.data.manifest import CollectionError, inspection
from keras_ctxattr.data.manifest.inspection import load_entry
from keras_ctxattr.data.manifest.remote import StoreError
from keras_ctxattr.export import export_module
from keras_ctxattr.jobs import JobError, Workers
from keras_ctxattr.runs import DiskFullError
from keras_ctxattr.search.describing import ModuleDescriber
from keras_ctxattr.search.encoding import (
    EncodedTable,
    ShardError,
    encode,
    encode_photographs,
    worker,
)
from keras_ctxattr.search.encoding.plan import list_collection
from tests.jobs.faults import FaultyJob

SHARD = 8  # files; 39 are in five shards
TWO = Workers(num_workers=2, pin=True, start_seconds=200, silent_seconds=200)


@pytest.fixture(scope="module")
def table(collection, module, tmp_path_factory):
    """Gives a table that one process of its own wrote; no test changes it."""
    folder = tmp_path_factory.mktemp("tables") / "table"
    encode_photographs([str(collection)], folder, module, shard_images=SHARD)
    return folder


@pytest.fixture
def copied(table, tmp_path):
    """Gives a copy of it, to be changed."""
    return Path(shutil.copytree(table, tmp_path / "table"))


@pytest.fixture(scope="module")
def describer(module):
    """Gives the module, loaded into this process once."""
    return ModuleDescriber(module)


@pytest.fixture
def encode_here(monkeypatch, collection, module, describer):
    """Gives `encode_photographs` without processes, and a list of the shards it writes."""
    written = []

    class Here:
        num_workers, num_lost = 1, 0

        def __init__(self, job):
            self.work = job.load(Workers().seat(0))

        def call(self, unit, name, note):
            written.append(unit.shard)
            self.work(unit, note)

        def close(self):
            pass

    def run(place, sources=(str(collection),), **options):
        written.clear()
        with monkeypatch.context() as patched:
            patched.setattr(worker, "set_threads", lambda number: None)
            patched.setattr(worker, "ModuleDescriber", lambda folder: describer)
            patched.setattr(encode, "open_pool", lambda job, _: contextlib.nullcontext(Here(job)))
            found = encode_photographs(sources, place, module, **{"shard_images": SHARD, **options})
        return found, sorted(written)

    return run


def contents(folder):
    """Gives the bytes of all files of a table; the lock has a process's id."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# --- What a table holds ---


def test_each_image_has_its_code_and_vector(table, collection, describer):
    opened = EncodedTable(table)
    paths = sorted(str(path.relative_to(collection)) for path in collection.rglob("*.*"))
    assert len(opened) == 36 and list(opened.keys()) == [
        paths[image_id] for image_id in opened.image_ids
    ]
    lengths = np.linalg.norm(np.asarray(opened.vectors, np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    assert opened.vectors.dtype == np.float16 and opened.codes.shape == (36, 2)
    assert len(np.unique(np.asarray(opened.codes), axis=0)) >= 3
    for row, key in list(enumerate(opened.keys()))[::5]:
        encoded = (collection / key).read_bytes()
        found = describer.describe(encoded)
        np.testing.assert_array_equal(opened.codes[row], found.code)
        np.testing.assert_allclose(opened.vectors[row], found.vector, atol=1e-3)
        digest = hashlib.blake2b(encoded, digest_size=16).digest()
        assert opened.digests[row].tobytes() == digest


def test_what_was_skipped_is_told_with_its_reason(table):
    opened = EncodedTable(table)
    skipped = dict(opened.skipped())
    assert sorted(skipped) == ["broken.jpg", "concept3/empty.png", "notes.txt"]
    assert skipped["broken.jpg"].startswith("unreadable: JPEG")
    assert skipped["concept3/empty.png"] == "unreadable: the file is empty"
    assert skipped["notes.txt"] == "not an image"
    counts = {"images": 36, "skipped": 2, "others": 1, "files": 39, "shards": 5}
    assert {**opened.counts, **counts} == opened.counts
    size = sum(len(content) for name, content in contents(table).items() if "/" in name)
    assert opened.counts["bytes"] == size


def test_shards_are_fixed_ranges_and_every_file_is_in_one(table):
    abouts = [json.loads(path.read_text()) for path in sorted(table.glob("*/shard.json"))]
    assert [(about["start"], about["stop"]) for about in abouts] == [
        (0, 8), (8, 16), (16, 24), (24, 32), (32, 39),
    ]  # fmt: skip
    ids = [np.load(path) for path in sorted(table.glob("*/image_ids.npy"))]
    places = [[place for place, _ in about["skipped"]] for about in abouts]
    everything = [*np.concatenate(ids).tolist(), *(place for one in places for place in one)]
    assert sorted(everything) == list(range(39))


def test_codes_alone_are_kept_if_so_asked(encode_here, table, tmp_path):
    encode_here(tmp_path / "codes", keep_vectors=False)
    opened = EncodedTable(tmp_path / "codes")
    np.testing.assert_array_equal(opened.codes, EncodedTable(table).codes)
    assert opened.vectors is None and not list((tmp_path / "codes").rglob("vectors.npy"))


def test_names_that_are_no_unicode_and_equal_names_are_kept(encode_here, collection, tmp_path):
    source = sorted(collection.rglob("*.png"))[0]
    odd = tmp_path / "odd"
    odd.mkdir()
    name = os.fsdecode(b"\xff\nodd.png")
    shutil.copy(source, odd / name)
    with tarfile.open(odd / "two.tar", "w") as archive:
        for _ in range(2):
            archive.add(source, arcname="same.png")
    encode_here(tmp_path / "table", [str(odd)])
    expected = sorted([name, "two.tar/same.png", "two.tar/same.png~2"])
    assert sorted(EncodedTable(tmp_path / "table").keys()) == expected


# --- Whoever does the work ---


def test_two_processes_write_the_same_bytes(table, collection, module, tmp_path):
    steps = []
    found = encode_photographs(
        [str(collection)],
        tmp_path / "table",
        module,
        workers=TWO,
        shard_images=SHARD,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert contents(tmp_path / "table") == contents(table)
    assert (found.images, found.skipped, found.others, found.lost) == (36, 2, 1, 0)
    assert steps[-1] == (39, 39) and sorted(steps) == steps


@pytest.mark.parametrize(
    "fault", ["die_in_midst", pytest.param("die_after_writing", marks=pytest.mark.slow)]
)
def test_a_killed_worker_loses_and_doubles_nothing(
    fault, table, collection, module, tmp_path, monkeypatch
):
    check_fault(fault, TWO, table, collection, module, tmp_path, monkeypatch)


def check_fault(fault, workers, table, collection, module, tmp_path, monkeypatch):
    (tmp_path / "marks").mkdir()
    faulty = functools.partial(FaultyJob, fault=fault, shard=2, marks=str(tmp_path / "marks"))
    monkeypatch.setattr(encode, "EncodeJob", faulty)
    found = encode_photographs(
        [str(collection)], tmp_path / "table", module, workers=workers, shard_images=SHARD
    )
    assert found.lost == 1 and len(list((tmp_path / "marks").iterdir())) == 1
    assert contents(tmp_path / "table") == contents(table)


def test_a_full_disk_is_one_line_and_shards_before_it_are_kept(encode_here, tmp_path, monkeypatch):
    write = Path.write_bytes

    def fill_up(path, content):
        if path.parent.name.startswith(".00002") and path.name == "digests.npy":
            write(path, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fill_up)
        with pytest.raises(DiskFullError) as caught:
            encode_here(tmp_path / "table")
    assert "No space left while writing 00002: free" in str(caught.value)
    assert "the shards before it are kept" in str(caught.value) and "\n" not in str(caught.value)
    kept = {path.name for path in (tmp_path / "table").glob("0*")}
    assert {"00000", "00001"} <= kept <= {"00000", "00001", "00003"}  # that had begun already
    assert not list((tmp_path / "table").glob(".*partial*"))
    _, written = encode_here(tmp_path / "table")
    assert written == [shard for shard in range(5) if f"0000{shard}" not in kept]
    assert EncodedTable(tmp_path / "table").counts["images"] == 36


@pytest.mark.slow
def test_killed_as_a_whole_it_goes_on_and_ends_with_the_same_bytes(
    table, collection, module, tmp_path
):
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent("""
        import functools, sys
        from keras_ctxattr.jobs import Workers
        from keras_ctxattr.search.encoding import encode
        from tests.jobs.faults import FaultyJob
        if __name__ == "__main__":
            encode.EncodeJob = functools.partial(FaultyJob, fault="slow", shard=0, marks="")
            encode.encode_photographs(
                [sys.argv[1]], sys.argv[2], sys.argv[3],
                workers=Workers(num_workers=2), shard_images=8,
            )
        """)
    )
    target = tmp_path / "table"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    job = subprocess.Popen(
        [sys.executable, script, collection, target, module],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    try:
        while not list(target.glob("0*")):
            assert job.poll() is None, job.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        job.kill()
        job.communicate(timeout=30)
    before = {path: path.stat().st_mtime_ns for path in target.glob("0*/*")}
    assert 1 <= len(list(target.glob("0*"))) < 5
    with pytest.raises(ValueError, match="must have all its shards"):
        EncodedTable(target)
    encode_photographs([str(collection)], target, module, workers=TWO, shard_images=SHARD)
    assert contents(target) == contents(table)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in target.rglob("*")}.items()


# --- Resumed and shared ---


def test_only_missing_shards_are_written_and_a_finished_table_is_left(encode_here, copied):
    assert encode_here(copied) == encode_here(copied)
    before = contents(copied)
    found, written = encode_here(copied)
    assert written == [] and found.images == 36 and contents(copied) == before
    assert [key for key, _ in found.first_skipped] == ["broken.jpg", "concept3/empty.png"]
    shutil.rmtree(copied / "00003")
    assert encode_here(copied)[1] == [3]
    assert contents(copied).keys() == before.keys()


def test_machines_that_share_a_folder_write_each_shard_once(encode_here, tmp_path, table):
    first, written = encode_here(tmp_path / "table", share=(0, 2))
    assert written == [0, 2, 4] and first.missing == 2 and first.images == 0
    with pytest.raises(ValueError, match="without 2 of 5: 1, 3"):
        EncodedTable(tmp_path / "table")
    second, written = encode_here(tmp_path / "table", share=(1, 2))
    assert written == [1, 3] and second.missing == 0 and second.images == 36
    assert contents(tmp_path / "table").keys() == contents(table).keys()


def test_another_collection_module_or_choice_is_refused(
    encode_here, copied, collection, module, tmp_path, monkeypatch
):
    before = contents(copied)
    more = Path(shutil.copytree(collection, tmp_path / "photos"))
    shutil.copy(next(more.rglob("*.png")), more / "one_more.png")
    for options, message in (
        ({"sources": [str(more)]}, "collection="),
        ({"keep_vectors": False}, "keep_vectors=False"),
        ({"shard_images": 9}, "shard_rows=9"),
        ({"workers": Workers(num_threads=2)}, "num_threads=2"),
    ):
        with pytest.raises(ValueError, match=f"configuration it was started with.*{message}"):
            encode_here(copied, **options)
    other = Path(shutil.copytree(module, tmp_path / "other"))
    (other / "module.json").write_text((other / "module.json").read_text() + " ")
    with pytest.raises(ValueError, match="module="):
        encode_photographs([str(collection)], copied, other, shard_images=SHARD)
    assert contents(copied) == before
    moved = Path(shutil.copytree(collection, tmp_path / "elsewhere"))
    assert encode_here(copied, sources=[str(moved)])[1] == []  # where it lies does not matter


# --- Missing, doubled and damaged shards ---


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut short": (lambda f: os.truncate(f / "00001/vectors.npy", 200), "vectors.npy is not whole"),
    "a bit": (lambda f: flip(f / "00001/codes.npy"), "codes.npy has other bytes"),
    "a file gone": (lambda f: (f / "00001/digests.npy").unlink(), "digests.npy is not whole"),
    "no shard.json": (lambda f: (f / "00001/shard.json").unlink(), "shard.json is not whole"),
    "half of it": (lambda f: os.truncate(f / "00001/shard.json", 90), "shard.json is not whole"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_shard_is_one_line_and_is_mended_as_it_says(name, encode_here, copied):
    expected = contents(copied)
    damage, message = DAMAGES[name]
    damage(copied)
    with pytest.raises(ShardError, match=f"delete this folder .*/00001: {message}") as caught:
        encode_here(copied)
    assert "\n" not in str(caught.value)
    shutil.rmtree(copied / "00001")
    assert encode_here(copied)[1] == [1]
    assert contents(copied).keys() == expected.keys()


def test_a_doubled_shard_is_one_line(encode_here, copied):
    shutil.rmtree(copied / "00003")
    shutil.copytree(copied / "00001", copied / "00003")
    with pytest.raises(ShardError, match="00003 with images 8 to 15, which belong elsewhere"):
        encode_here(copied)
    shutil.rmtree(copied / "00003")
    shutil.copytree(copied / "00001", copied / "00001 (copy)")
    with pytest.raises(ShardError, match=r"nothing else.*00001 \(copy\), beside 5 shards"):
        encode_here(copied)
    (copied / "00001 (copy)").rename(copied / "00005")
    with pytest.raises(ShardError, match=r"nothing else.*00005, beside 5 shards"):
        encode_here(copied)


@pytest.mark.parametrize("is_doubled", [False, True])
def test_an_image_missing_or_twice_in_a_shard_is_found(is_doubled, encode_here, copied):
    path = copied / "00001/shard.json"
    about = json.loads(path.read_text())
    ids = np.load(copied / "00001/image_ids.npy")
    ids[3] = ids[2] if is_doubled else 40
    np.save(copied / "00001/image_ids.npy", ids)
    content = (copied / "00001/image_ids.npy").read_bytes()
    about["files"]["image_ids.npy"] = hashlib.blake2b(content, digest_size=16).hexdigest()
    path.write_text(json.dumps(about))
    with pytest.raises(ShardError, match="an image is missing in it, or there twice"):
        encode_here(copied)


def test_a_shard_of_another_collection_is_found(encode_here, copied):
    path = copied / "00001/shard.json"
    about = json.loads(path.read_text())
    about["keys"][2] += "~"
    path.write_text(json.dumps(about))
    with pytest.raises(ShardError, match="it names other images than the collection"):
        encode_here(copied)


def test_a_shard_that_vanishes_meanwhile_is_found(encode_here, copied, monkeypatch):
    shutil.rmtree(copied / "00004")
    monkeypatch.setattr(encode._Work, "do", lambda self, shards: None)
    with pytest.raises(ShardError, match=r"Every shard must be there.*without 1 of 5: 00004"):
        encode_here(copied)


# --- What is refused ---


def test_what_cannot_be_encoded_is_refused_before_anything_is_written(
    encode_here, collection, module, tmp_path
):
    target = tmp_path / "table"
    plain = export_module(small(width=8, num_features=16), tmp_path / "plain")
    with pytest.raises(ValueError, match="must have attributes"):
        encode_photographs([str(collection)], target, plain)
    with pytest.raises(CollectionError, match="must exist"):
        encode_here(target, ["nowhere"])
    with pytest.raises(ValueError, match="`shard_images` must be at least 1"):
        encode_here(target, shard_images=0)
    with pytest.raises(ValueError, match="`share` must be"):
        encode_here(target, share=(2, 2))
    assert not target.exists()
    with pytest.raises(ValueError, match="new or empty"):
        encode_here(collection)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"whole table.json"):
        EncodedTable(tmp_path / "empty")


def test_two_commands_in_one_folder_are_kept_apart(encode_here, copied):
    from keras_ctxattr.search.encoding.shelves import open_shelf

    with open_shelf(str(copied)).lock(), pytest.raises(ValueError, match="Only one process"):
        encode_here(copied)


def test_a_table_whose_check_was_not_reached_is_not_opened(copied):
    about = json.loads((copied / "table.json").read_text())
    del about["counts"]
    (copied / "table.json").write_text(json.dumps(about))
    with pytest.raises(ShardError, match="checked to its end"):
        EncodedTable(copied)


# --- URLs ---


@pytest.fixture
def memory():
    """Gives the file system of `memory://`, emptied."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_photographs_and_shards_may_lie_at_a_url(encode_here, collection, table, memory, tmp_path):
    memory.put(str(collection), "/photos", recursive=True)
    found, written = encode_here("memory://table", ["memory://photos"])
    assert written == [0, 1, 2, 3, 4] and found.images == 36 and found.skipped == 2
    names = {name.removeprefix("/table/") for name in memory.find("/table")}
    assert names == contents(table).keys()  # and nothing under a temporary name
    memory.get("/table", str(tmp_path / "fetched"), recursive=True)
    fetched, own = EncodedTable(tmp_path / "fetched"), EncodedTable(table)
    assert list(fetched.keys()) == list(own.keys()) and fetched.counts == own.counts
    np.testing.assert_array_equal(fetched.codes, own.codes)
    np.testing.assert_array_equal(fetched.digests, own.digests)


def test_at_a_url_a_shard_counts_from_its_shard_json_on(encode_here, collection, memory):
    memory.put(str(collection), "/photos", recursive=True)
    encode_here("memory://table", ["memory://photos"])
    before = dict.fromkeys(memory.find("/table"))
    memory.rm("/table/00002/shard.json")  # as if the worker had died before it was written
    assert encode_here("memory://table", ["memory://photos"])[1] == [2]
    assert dict.fromkeys(memory.find("/table")) == before
    assert encode_here("memory://table", ["memory://photos"])[1] == []
    memory.pipe_file("/table/00002/codes.npy", b"short")
    with pytest.raises(ShardError, match=r"memory://table/00002: codes.npy is not whole"):
        encode_here("memory://table", ["memory://photos"])
    with pytest.raises(ValueError, match=r"configuration it was started with.*shard_rows=4"):
        encode_here("memory://table", ["memory://photos"], shard_images=4)
    with pytest.raises(ValueError, match=r"new or empty, or its own.*memory://photos"):
        encode_here("memory://photos", ["memory://photos"])


def test_a_url_that_cannot_be_written_is_one_line(encode_here, collection, memory, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("quota\nreached")

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(OSError, match=r"A URL must be within reach.*quota reached") as caught:
        encode_here("memory://table")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_processes_read_and_write_a_url_with_the_same_bytes(table, collection, module, tmp_path):
    pytest.importorskip("fsspec")
    encode_photographs(
        [f"file://{collection}"],
        f"file://{tmp_path}/table",
        module,
        workers=TWO,
        shard_images=SHARD,
    )
    assert {
        name: content
        for name, content in contents(tmp_path / "table").items()
        if name != "table.json"
    } == {name: content for name, content in contents(table).items() if name != "table.json"}


# --- The command ---


@pytest.fixture
def ctxattr(monkeypatch, capfd):
    """Gives a function that runs a command as the shell does, and gives what it printed."""

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["ctxattr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capfd.readouterr()
        assert int(stop.value.code or 0) == code, captured.err
        return captured.out if code == 0 else captured.err

    return run


def test_the_command_says_what_there_is(ctxattr, encode_here, copied, collection, module):
    arguments = ("encode", collection, "--module", module, "--out", copied, "--shard-images", 8)
    told = ctxattr(*arguments).splitlines()
    assert told[0].startswith("skipped broken.jpg: unreadable") and len(told) == 3
    assert "36 images, 2 skipped, 1 other files, in 5 shards" in told[-1]
    report = json.loads(ctxattr(*arguments, "--json"))
    assert (report["images"], report["missing"], report["lost"]) == (36, 0, 0)
    assert report["first_skipped"][1]["key"] == "concept3/empty.png"
    shutil.rmtree(copied / "00001")
    told = ctxattr(*arguments, "--share", "0/2")
    assert "1 of 5 shards are left to others" in told
    for wrong, message in (
        (("--share", "2/2"), "`share` must be"),
        (("--share", "half"), "`--share` must be I/N"),
        (("--engine", "beam"), "`engine` must be local or ray"),
        (("--address", "auto"), "set the engine to ray"),
        (("--workers", "0"), "--workers"),
        (("--shard-images", "0"), "--shard-images"),
        (("--shard-images", "9"), "configuration it was started with"),
    ):
        line = ctxattr(*arguments, *wrong, code=cli.ERROR_CODE)
        assert message in line and line.count("\n") == 1 and line.startswith("ctxattr: ")


def test_a_store_whose_package_is_missing_is_one_line(ctxattr, module, tmp_path):
    pytest.importorskip("fsspec")
    flags = ("--module", module, "--out", tmp_path / "table")
    line = ctxattr("encode", "nonsense://photos", *flags, code=cli.ERROR_CODE)
    assert "nonsense" in line and "pip install" in line and line.count("\n") == 1
    assert not (tmp_path / "table").exists()


# --- Ray ---


@pytest.fixture(scope="module")
def on_ray():
    """Starts Ray once for these tests, and gives the settings."""
    pytest.importorskip("ray")
    from keras_ctxattr.jobs.rays import ray_session

    settings = dataclasses.replace(TWO, engine="ray")
    with ray_session(settings):
        yield settings


@pytest.mark.slow
def test_actors_write_the_same_bytes(on_ray, table, collection, module, tmp_path):
    encode_photographs(
        [str(collection)], tmp_path / "table", module, workers=on_ray, shard_images=SHARD
    )
    assert contents(tmp_path / "table") == contents(table)


@pytest.mark.slow
def test_a_killed_actor_loses_and_doubles_nothing(
    on_ray, table, collection, module, tmp_path, monkeypatch
):
    check_fault("die_in_midst", on_ray, table, collection, module, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_full_disk_is_told_by_actors(on_ray, collection, module, tmp_path, monkeypatch):
    faulty = functools.partial(FaultyJob, fault="have_no_room", shard=2, marks="")
    with monkeypatch.context() as patched:
        patched.setattr(encode, "EncodeJob", faulty)
        with pytest.raises(DiskFullError, match="limit reached while writing 00002: free"):
            encode_photographs(
                [str(collection)], tmp_path / "table", module, workers=on_ray, shard_images=SHARD
            )
    assert not (tmp_path / "table/00002").exists()
    assert not list((tmp_path / "table").glob(".*partial*"))


def test_a_shard_that_ends_every_worker_is_one_line(collection, module, tmp_path, monkeypatch):
    class Dying:
        num_workers, num_lost = 1, 3

        def call(self, unit, name, note):
            raise JobError(f"A piece of work must not end its worker. Received: {name}")

        def close(self):
            self.is_closed = True

    monkeypatch.setattr(encode, "open_pool", lambda job, _: contextlib.nullcontext(Dying()))
    with pytest.raises(JobError, match="shard 0000"):
        encode_photographs([str(collection)], tmp_path / "table", module, shard_images=SHARD)


# --- Disks ---


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_stops_the_job_and_skips_nothing(
    code, encode_here, table, tmp_path, monkeypatch
):
    """All of a shard was once recorded as skipped where a machine did not see the photographs."""
    read = inspection._read

    def fail(entry, count):
        if entry.key.endswith("0007.png"):
            raise OSError(code, os.strerror(code))
        return read(entry, count)

    with monkeypatch.context() as patched:
        patched.setattr(inspection, "_read", fail)
        with pytest.raises(StoreError, match=f"Every photograph.*{os.strerror(code).lower()}"):
            encode_here(tmp_path / "table")
    encode_here(tmp_path / "table")
    assert contents(tmp_path / "table") == contents(table)


@pytest.fixture
def listed(tmp_path):
    """Gives a photograph and how it was listed."""
    photograph = tmp_path / "photos" / "one.jpg"
    photograph.parent.mkdir()
    photograph.write_bytes(b"\xff\xd8\xff\xe0 of which no more is read")
    (entry,) = list_collection([str(photograph.parent)])
    return photograph, entry


def test_a_file_that_was_deleted_meanwhile_is_skipped(listed, tmp_path):
    photograph, entry = listed
    photograph.unlink()
    facts, _ = load_entry(entry, max_pixels=10, cache_dir=tmp_path, insist=True)
    assert facts.skip == "unreadable: no such file or directory"


def test_a_folder_that_a_machine_does_not_see_stops_the_job(listed, tmp_path):
    photograph, entry = listed
    shutil.rmtree(photograph.parent)
    with pytest.raises(StoreError, match=r"on each machine that reads it.*no such file"):
        load_entry(entry, max_pixels=10, cache_dir=tmp_path, insist=True)
    facts, _ = load_entry(entry, max_pixels=10, cache_dir=tmp_path)
    assert facts.skip == "unreadable: no such file or directory"
