"""Copies of modules, and the versions that a model server looks for."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import small
from keras_ctxattr.export import copy_module, export_module, export_version, read_module


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    target = tmp_path_factory.mktemp("copying") / "module"
    return export_module(small(width=4, num_features=8), target, license="MIT")


def contents(folder: Path) -> dict[str, bytes]:
    """Gives the bytes of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_versions_follow_each_other_and_hold_the_module(module: Path, tmp_path: Path) -> None:
    models = tmp_path / "models/photos"
    first, second = (export_version(module, models) for _ in range(2))
    assert first == models / "1" and second == models / "2"
    assert sorted(path.name for path in models.iterdir()) == ["1", "2"]
    assert contents(first) == contents(second) == contents(module)
    images = np.random.default_rng(0).uniform(0, 1, (2, 40, 50, 3)).astype("float32")
    served = tf.saved_model.load(str(second)).signatures["serving_default"](tf.constant(images))
    np.testing.assert_array_equal(served["features"], tf.saved_model.load(str(module))(images))


def test_the_next_version_is_one_above_the_highest(module: Path, tmp_path: Path) -> None:
    for name in ("2", "10", "9.old", "canary"):  # 10 comes after 2 and after 9
        (tmp_path / name).mkdir()
    assert export_version(module, tmp_path).name == "11"
    assert export_version(module, tmp_path, version=5).name == "5"
    assert export_version(module, tmp_path).name == "12"


def test_a_version_is_never_overwritten(module: Path, tmp_path: Path) -> None:
    version = export_version(module, tmp_path)
    (version / "notes.txt").write_text("served since Monday")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"never overwritten.*Received: version=1") as caught:
        export_version(module, tmp_path, version=1)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_version_that_another_process_wrote_meanwhile_stays(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree = shutil.copytree

    def copy_slowly(source: Path, target: Path) -> None:
        monkeypatch.setattr(shutil, "copytree", copytree)  # it calls itself
        copytree(source, target)
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").write_text("of another process")

    monkeypatch.setattr(shutil, "copytree", copy_slowly)
    with pytest.raises(FileExistsError, match="another process"):
        export_version(module, tmp_path)
    assert contents(tmp_path) == {"1/saved_model.pb": b"of another process"}
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_copy_that_fails_leaves_nothing(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "saved_model.pb").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", fail)
    with pytest.raises(OSError, match="No space left"):
        export_version(module, tmp_path / "photos")
    assert not list((tmp_path / "photos").iterdir())


@pytest.mark.parametrize("version", [0, -1, 1.5, True, "1", 2**63])
def test_versions_are_whole_numbers_from_1(module: Path, tmp_path: Path, version: object) -> None:
    with pytest.raises(ValueError, match="`version` must be a whole number"):
        export_version(module, tmp_path / "photos", version=version)
    assert not (tmp_path / "photos").exists()


def test_versions_are_not_put_into_a_module_or_a_file(module: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for models, word in ((module, "module"), (tmp_path / "file", "file")):
        with pytest.raises(ValueError, match=f"folder of their own.*which is a {word}"):
            export_version(module, models)


def test_a_licence_changes_in_the_copy_alone(module: Path, tmp_path: Path) -> None:
    copy = copy_module(module, tmp_path / "copy", license="CC0-1.0")
    assert read_module(copy) == {**read_module(module), "license": "CC0-1.0"}
    assert read_module(module)["license"] == "MIT"
    changed = contents(copy)
    assert json.loads(changed.pop("module.json"))["license"] == "CC0-1.0"
    assert changed == {k: v for k, v in contents(module).items() if k != "module.json"}
    with pytest.raises(ValueError, match="`license` must be"):
        copy_module(module, tmp_path / "other", license="")


def test_what_is_no_module_is_not_copied_and_nothing_else_replaced(
    module: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(ValueError, match="must be a module"):
        copy_module(tmp_path, tmp_path / "copy")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="which holds something else"):
            copy_module(module, tmp_path, overwrite=overwrite)
    with pytest.raises(ValueError, match="another folder than the module's own"):
        copy_module(module, module / "." / "", overwrite=True)
    copy = copy_module(module, tmp_path / "copy")
    with pytest.raises(ValueError, match="unless overwrite=True"):
        copy_module(module, copy)
    assert contents(copy_module(module, copy, overwrite=True)) == contents(module)
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"
