"""Every stage in one call: what is made, that it goes on where it stopped, and what is refused."""

import json
import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.clustering import (
    AlternationRecipe,
    TooFewClustersError,
    alternate_clusters,
    open_rounds,
)
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export import read_module
from keras_ctxattr.pipeline import learn, learn_from_photographs
from keras_ctxattr.pipeline.plan import Pace, Plan
from keras_ctxattr.runs import Run, RunError, digest_arrays

TINY = AlternationRecipe(
    features="hog",
    size=96,
    unit="random",
    backbone="compact",
    backbone_options={"width": 8, "num_features": 16},
    batch_size=32,
    clustering={"num_iterations": 2, "num_growths": 1, "samples_per_cluster": 4},
    dtype_policy="float32",
)
PLAN = Plan(
    context_minutes=0.02,
    patches_per_image=4,
    copies=1,
    seconds={"context": 1.2, "clusters": 60.0, "attributes": 6000.0},
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number in range(36):
        coarse = generator.integers(0, 255, (3 + 9 * (number % 3), 12, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), cv2.resize(coarse, (320, 240)))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(learn, "measure_pace", lambda recipe: Pace(patch=1.0, photograph=1.0))
    monkeypatch.setattr(learn, "make_plan", lambda *arguments: PLAN)


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("runs") / "run", []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learn, "measure_pace", lambda recipe: Pace(patch=1.0, photograph=1.0))
        patched.setattr(learn, "make_plan", lambda *arguments: PLAN)
        result = learn_from_photographs(
            [photographs], folder, num_attributes=16, recipe=TINY, report=lines.append
        )
    return folder, result, lines


@pytest.mark.slow
def test_module_gives_files_the_codes_that_were_written(finished, photographs):
    _, result, _ = finished
    codes = np.load(result.codes)
    assert codes.shape == (36, 2) and result.num_photographs == 36
    module = tf.saved_model.load(str(result.module))
    paths = scan_images([photographs]).paths
    files = tf.stack([tf.io.read_file(path) for path in paths[:6]])
    np.testing.assert_array_equal(module.encode_bytes(files), codes[:6])
    for picture in (result.neighbours, result.attributes):
        assert cv2.imread(str(picture)).std() > 10


@pytest.mark.slow
def test_estimates_are_told_before_the_work(finished):
    _, result, lines = finished
    first = next(number for number, line in enumerate(lines) if line.startswith("Stage 1"))
    told = "\n".join(lines[:first])
    assert "36 photographs; about 1.7 hours in all" in told
    for name, estimate in (("context", "1 seconds"), ("clusters", "60 s"), ("attributes", "1.7 h")):
        assert name in told and estimate in told
    assert list(result.seconds) == ["context", "clusters", "attributes"]
    assert any(line.startswith("Stage 3 of 3: attributes") for line in lines)
    assert "  36 of 36 photographs described" in lines


@pytest.mark.slow
def test_photographs_are_described_by_the_network_that_learnt_last(finished):
    """Where its round was not kept, that of context prediction once was."""
    folder, _, _ = finished
    last = open_rounds(folder / "clusters")[-1]
    assert last.number == 1
    network = Run.read(folder / "attributes").config["network"]
    assert network == digest_arrays(last.load_backbone().get_weights())


@pytest.mark.slow
def test_module_says_how_its_network_was_trained(finished, photographs):
    folder, result, _ = finished
    told = read_module(result.module)["trained_on"]
    assert told["images"] == [str(photographs)] and told["num_photographs"] == 36
    context = Run.read(folder / "context")
    assert told["network"]["context"] == {
        "config": context.config,
        "held_out_accuracy": context.summary["accuracy"],
    }
    clusters = {"config": Run.read(folder / "clusters").config, "round": 1}
    assert told["network"]["clusters"] == clusters


@pytest.mark.slow
def test_same_call_again_does_no_stage_again(finished, photographs, monkeypatch):
    folder, result, _ = finished
    for name in ("train_context", "alternate_clusters", "learn_photo_attributes", "scan_images"):
        monkeypatch.setattr(learn, name, None)
    again = learn_from_photographs([photographs], folder, num_attributes=16, recipe=TINY)
    assert again == result


@pytest.mark.slow
def test_a_call_that_was_stopped_goes_on_at_its_stage(photographs, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    lines: list[str] = []
    arguments = {"num_attributes": 8, "recipe": TINY, "report": lines.append}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(learn, "alternate_clusters", stop)
        learn_from_photographs([photographs], tmp_path / "run", **arguments)
    lines.clear()
    monkeypatch.chdir(tmp_path)  # the same folder by another name
    result = learn_from_photographs([photographs], "run", **arguments)
    assert lines[0].startswith("context: done before, in")
    assert lines[1].startswith("Stage 2 of 3") and result.num_photographs == 36


@pytest.mark.slow
def test_too_few_clusters_of_patches_leave_the_network_as_it_is(
    finished, photographs, tmp_path, monkeypatch
):
    def find_none(*arguments, **options):
        alternate_clusters(*arguments, **{**options, "rounds": 0})
        raise TooFewClustersError("none")

    shutil.copytree(finished[0], tmp_path / "run")
    for name in ("clusters", "attributes"):
        shutil.rmtree(tmp_path / "run" / name)
    done = json.loads((tmp_path / "run/seconds.json").read_text())
    (tmp_path / "run/seconds.json").write_text(json.dumps({"context": done["context"]}))
    monkeypatch.setattr(learn, "alternate_clusters", find_none)
    lines: list[str] = []
    learn_from_photographs(
        [photographs], tmp_path / "run", num_attributes=16, recipe=TINY, report=lines.append
    )
    assert "  Too few patches look alike: the network stays as it is." in lines
    config = Run.read(tmp_path / "run/attributes").config
    backbone = keras.saving.load_model(tmp_path / "run/backbone.keras")
    assert config["network"] == digest_arrays(backbone.get_weights())


def test_a_failed_start_leaves_nothing(photographs, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photographs.iterdir())[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"At least 32 photographs.*Received: 5 of 5 files"):
        learn_from_photographs([few], tmp_path / "run")
    for options, message in (
        ({"num_attributes": 12}, "multiple of 8"),
        ({"hours": 0.0}, "`hours` must be"),
        ({"hours": float("nan")}, "`hours` must be"),
        ({"seed": -1}, "`seed` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            learn_from_photographs([photographs], tmp_path / "run", **options)
    small = tmp_path / "small"
    small.mkdir()
    for path in photographs.iterdir():
        cv2.imwrite(str(small / path.name), cv2.imread(str(path))[:64, :64])
    with pytest.raises(ValueError, match=r"large enough to learn from.*Received: 0 of 36 files"):
        learn_from_photographs([small], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_of_other_bits_is_refused(finished, photographs):
    with pytest.raises(RunError, match="num_attributes"):
        learn_from_photographs([photographs], finished[0], num_attributes=8, recipe=TINY)
