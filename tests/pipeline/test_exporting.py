"""One command for the module of every kind of run, and of a module itself."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import small
from keras_ctxattr.export import export_module, read_module
from keras_ctxattr.pipeline import export_learnt
from keras_ctxattr.runs import Run, RunError

IMAGES = np.random.default_rng(0).uniform(0, 1, (2, 40, 48, 3)).astype("float32")


def write_run(folder: Path, kind: str, place: str, *, kept: int = 1) -> Path:
    """Writes a run of a kind, without its training, whose module lies at a place."""
    keras.utils.set_random_seed(0)
    with Run.open(folder, {"seed": 0}, kind=kind) as run:
        export_module(small(width=4, num_features=8), run.place(place))
        run.finish({"kept": kept})
    return folder


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "learnt", "learn", "attributes/module")


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("learn", "attributes/module"),
        ("photo_attributes", "module"),
        ("attributes", "module"),
        ("clusters", "rounds/2/module"),
    ],
)
def test_of_every_kind_of_run_the_module_it_made_is_written(
    kind: str, place: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", kind, place, kept=2)
    written = export_learnt(run, tmp_path / "out")
    assert written == tmp_path / "out"
    expected = tf.saved_model.load(str(run / place))(IMAGES)
    np.testing.assert_array_equal(tf.saved_model.load(str(written))(IMAGES), expected)
    np.testing.assert_array_equal(
        tf.saved_model.load(str(export_learnt(run / place, tmp_path / "copy")))(IMAGES), expected
    )


def test_versions_of_a_run_follow_each_other_with_all_that_is_asked_for(
    learnt: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tf2onnx")
    models = tmp_path / "models/photos"
    first = export_learnt(learnt, models, serving=True)
    second = export_learnt(learnt, models, serving=True, onnx=True, license="CC0-1.0")
    assert [first, second] == [models / "1", models / "2"]
    assert not (first / "model.onnx").exists() and (second / "model.onnx").exists()
    assert [read_module(one)["license"] for one in (first, second)] == [None, "CC0-1.0"]


def test_what_is_asked_for_is_written_or_nothing(
    learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server would take the half that is there for a version."""
    from keras_ctxattr.pipeline import exporting

    def refuse(module: Path) -> None:
        assert read_module(module)["num_features"] == 8
        raise ValueError("no such operation")

    monkeypatch.setattr(exporting, "check_onnx_packages", lambda: None)
    monkeypatch.setattr(exporting, "export_onnx", refuse)
    for serving in (False, True):
        with pytest.raises(ValueError, match="no such operation"):
            export_learnt(learnt, tmp_path / "models/photos", serving=serving, onnx=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_module_can_be_renewed_in_its_place(tmp_path: Path) -> None:
    folder = export_module(small(width=4, num_features=8), tmp_path / "module")
    expected = tf.saved_model.load(str(folder))(IMAGES)
    with pytest.raises(ValueError, match="unless overwrite=True"):
        export_learnt(folder, folder, license="MIT")
    export_learnt(folder, folder, license="MIT", overwrite=True)
    assert read_module(folder)["license"] == "MIT"
    np.testing.assert_array_equal(tf.saved_model.load(str(folder))(IMAGES), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_runs_without_a_module_say_so_in_a_line(learnt: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "kept none", "clusters", "rounds/1/module", kept=0)
    write_run(tmp_path / "vectors", "attributes", "elsewhere")
    Run.open(tmp_path / "begun", {}, kind="learn").close()
    Run.open(tmp_path / "network", {}, kind="cluster_network").close()
    (tmp_path / "quickstart").mkdir()
    export_module(small(width=4, num_features=8), tmp_path / "quickstart/module")
    reasons = {
        "kept none": "without a network of its own",
        "vectors": "without a network of its own",
        "begun": "no module yet: give the training command again",
        "network": "must be of a kind that has a module",
        "quickstart": "give the module in it",
        "nowhere": "no run folder",
    }
    for name, reason in reasons.items():
        with pytest.raises(RunError, match=reason) as caught:
            export_learnt(tmp_path / name, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_impossible_wishes_are_refused(learnt: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never overwritten"):
        export_learnt(learnt, tmp_path / "out", serving=True, overwrite=True)
    with pytest.raises(ValueError, match="`colour` is chosen where"):
        export_learnt(learnt, tmp_path / "out", colour="project")
    with pytest.raises(ValueError, match="`license` must be"):
        export_learnt(learnt, tmp_path / "out", license="")
    assert not list(tmp_path.iterdir())
