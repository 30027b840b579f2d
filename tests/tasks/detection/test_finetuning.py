"""A detection run: started, interrupted, resumed, finished, loaded."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.tasks.detection.fast_rcnn import FastRcnnRecipe
from keras_ctxattr.tasks.detection.finetuning import finetune_detection, load_detector
from keras_ctxattr.tasks.detection.starting import Start, draw_weights, rescale_network
from keras_ctxattr.tasks.detection.transfer import open_feature_network
from tests.tasks.detection.photographs import draw_photographs, draw_proposals

RECIPE = FastRcnnRecipe(
    min_side=96,
    max_side=128,
    regions_per_image=16,
    region_size=3,
    hidden_units=32,
    optimizer_steps=6,
    dtype_policy="float32",
)
PLAIN = Start(rescale=False)


class InterruptionError(Exception):
    pass


class StopAfter(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.steps:
            raise InterruptionError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return draw_photographs(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    keras.utils.set_random_seed(0)
    backbone = compact(width=8, num_features=16)
    return export_module(backbone, tmp_path_factory.mktemp("network") / "module")


def train(photographs, module, folder, recipe=RECIPE, start=PLAIN, **options):
    return finetune_detection(
        photographs.select([0, 1, 2, 3]),
        photographs.select([4, 5]),
        folder,
        open_feature_network(module),
        recipe,
        start=start,
        propose=draw_proposals,
        **options,
    )


def weights_of(folder):
    detector, _ = load_detector(folder)
    return [np.asarray(one) for one in detector.model.weights]


def test_a_run_leaves_a_detector_and_its_detections(photographs, module, tmp_path, capfd):
    summary = train(photographs, module, tmp_path / "run", evaluate_every=3)
    assert summary["num_training_photographs"] == 4
    assert summary["num_photographs"] == 2
    assert 0 <= summary["map_voc07"] <= 1
    assert set(summary["average_precision"]) <= {"red", "blue"}
    assert train(photographs, module, tmp_path / "run", evaluate_every=3) == summary
    names = {path.name for path in (tmp_path / "run/detections").iterdir()}
    assert names == {"comp4_det_test_red.txt", "comp4_det_test_blue.txt"}
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert all(0 <= float(row["map_voc07"]) <= 1 for row in rows)
    detector, class_names = load_detector(tmp_path / "run")
    assert class_names == ("red", "blue")
    tested = photographs.select([4, 5])
    found = detector.detect(tested, draw_proposals(tested))
    lines = (tmp_path / "run/detections/comp4_det_test_red.txt").read_text().splitlines()
    assert len(lines) == sum(int((one.classes == 0).sum()) for one in found)


def test_an_interrupted_run_ends_as_if_it_had_not_been(photographs, module, tmp_path):
    train(photographs, module, tmp_path / "whole")
    with pytest.raises(InterruptionError):
        recipe = FastRcnnRecipe(**{**vars(RECIPE), "checkpoint_minutes": 1e-9})
        train(photographs, module, tmp_path / "run", recipe, callbacks=[StopAfter(4)])
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["config"]["recipe"]["checkpoint_minutes"] == 1e-9
    train(photographs, module, tmp_path / "run", recipe)
    for one, other in zip(
        weights_of(tmp_path / "whole"), weights_of(tmp_path / "run"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_another_network_in_the_same_folder_is_refused(photographs, module, tmp_path):
    train(photographs, module, tmp_path / "run")
    with pytest.raises(RunError, match="weights"):
        finetune_detection(
            photographs.select([0, 1, 2, 3]),
            photographs.select([4, 5]),
            tmp_path / "run",
            open_feature_network("untrained:compact"),
            RECIPE,
            start=PLAIN,
            propose=draw_proposals,
        )


def test_an_unfinished_run_has_no_detector(photographs, module, tmp_path):
    with pytest.raises(InterruptionError):
        train(photographs, module, tmp_path / "run", callbacks=[StopAfter(2)])
    with pytest.raises(ValueError, match="must be finished"):
        load_detector(tmp_path / "run")


def test_rescaling_is_told_and_survives_a_resume(photographs, module, tmp_path):
    start = Start(fresh="pca")
    recipe = FastRcnnRecipe(**{**vars(RECIPE), "checkpoint_minutes": 1e-9})
    with pytest.raises(InterruptionError):
        train(photographs, module, tmp_path / "run", recipe, start, callbacks=[StopAfter(3)])
    told = train(photographs, module, tmp_path / "run", recipe, start)["initialization"]
    assert {"fc6", "fc7", "logits"} == set(told["fresh"])
    assert told["rounds"] >= 1
    assert "conv1" in told["ratios"]
    assert Run.read(tmp_path / "run").finished


def test_a_plain_saved_model_is_fine_tuned_in_one_command(photographs, module, tmp_path):
    (module / "network.json").rename(module / "network.json.away")
    try:
        features = open_feature_network(module)
        assert not features.can_be_rescaled
        with pytest.raises(ValueError, match="--no-rescale"):
            train(photographs, module, tmp_path / "run", start=Start())
        train(photographs, module, tmp_path / "run")
        detector, _ = load_detector(tmp_path / "run")
        before = [np.asarray(one) for one in features.model.trainable_weights]
        after = detector.model.network.get_layer("saved_model").trainable_weights
        assert all(one.shape == other.shape for one, other in zip(before, after, strict=True))
        assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    finally:
        (module / "network.json.away").rename(module / "network.json")


def test_scratch_keeps_the_structure_and_nothing_else(module):
    features = open_feature_network(module)
    before = features.model.get_layer("conv2").kernel.numpy()
    draw_weights(features.model, 3)
    drawn = features.model.get_layer("conv2").kernel.numpy()
    bound = np.sqrt(3 / np.prod(drawn.shape[:-1]))
    assert drawn.shape == before.shape
    assert not np.array_equal(drawn, before)
    assert bound * 0.9 < np.abs(drawn).max() <= bound
    draw_weights(features.model, 3)
    assert np.array_equal(drawn, features.model.get_layer("conv2").kernel)


def test_transferred_layers_are_calibrated_and_keep_their_directions(module):
    part = open_feature_network(module).model
    before = part.get_layer("conv2").kernel.numpy()
    images = np.random.default_rng(0).normal(0, 50, (4, 96, 96, 3)).astype("float32")
    names = [layer.name for layer in part.layers if layer.weights]
    batches = [{part.inputs[0].name: images}]
    told = rescale_network(part, batches, Start(), names, seed=0)
    assert told["fresh"] == {}
    after = part.get_layer("conv2").kernel.numpy()
    assert np.allclose(after / before, (after / before).flat[0], rtol=1e-3)


def test_unknown_names_are_refused(photographs, module, tmp_path):
    with pytest.raises(ValueError, match="`fresh` must be one of"):
        Start(fresh="magic")
    with pytest.raises(ValueError, match="`method` must be one of"):
        train(photographs, module, tmp_path / "run", method="yolo")
    with pytest.raises(ValueError, match="`propose` must be given"):
        finetune_detection(photographs, None, tmp_path, open_feature_network(module), RECIPE)
