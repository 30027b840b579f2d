"""A run of normals: learnt, interrupted, resumed, loaded, scored."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.tasks.detection.transfer import open_feature_network
from keras_ctxattr.tasks.normals.baselines import MeanNormals
from keras_ctxattr.tasks.normals.frames import label_frames
from keras_ctxattr.tasks.normals.learning import learn_normals
from keras_ctxattr.tasks.normals.metrics import angular_errors
from keras_ctxattr.tasks.normals.predicting import NormalsPredictor, load_normals_model
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe
from tests.tasks.normals.scenes import Rooms, draw_room
from tests.tasks.normals.test_network import tiny_features

RECIPE = NormalsRecipe(
    longer_side=64,
    head_widths=(8,),
    frames_per_batch=3,
    radius=2,
    optimizer_steps=60,
    learning_rate=0.01,
    dtype_policy="float32",
)


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
def frames():
    return label_frames(Rooms(5), range(5), longer_side=64, radius=2)


@pytest.fixture(scope="module")
def features():
    return tiny_features(preset="unit")


@pytest.fixture(scope="module")
def folder(frames, features, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "normals"
    learn_normals(frames, place, features, RECIPE, about={"place": "rooms"})
    return place


def test_floors_are_told_from_walls(folder):
    predictor = load_normals_model(folder)
    pixels, _, normals = draw_room(11)  # not learnt from
    found = predictor.predict(pixels)
    assert found.shape == pixels.shape and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    errors = angular_errors(found, normals)
    assert np.median(errors) < 15 and (errors < 45).mean() > 0.85


def test_a_summary_tells_how_it_went(folder, frames, features):
    summary = Run.read(folder, kind="normals").summary
    assert summary["steps"] == 60 and summary["num_frames"] == 5
    assert summary["place"] == "rooms" and 0.5 < summary["share_valid"] < 1
    rows = Run.read(folder).metrics.rows()
    assert [int(row["step"]) for row in rows] == [50, 60]
    assert float(rows[1]["loss"]) == summary["loss"] < float(rows[0]["loss"])
    assert 0 < summary["angle"] < 30
    assert learn_normals(frames, folder, features, RECIPE) == summary  # finished: it says so


def test_an_interrupted_run_ends_as_if_it_had_not_been(frames, features, folder, tmp_path):
    recipe = dataclasses.replace(RECIPE, checkpoint_minutes=1e-9)
    learn_normals(frames, tmp_path / "whole", features, recipe)
    with pytest.raises(InterruptionError):
        learn_normals(frames, tmp_path / "run", features, recipe, callbacks=[StopAfter(7)])
    with pytest.raises(RunError, match="not finished"):
        load_normals_model(tmp_path / "run")
    learn_normals(frames, tmp_path / "run", features, recipe)
    whole, resumed = (
        load_normals_model(tmp_path / name).model.get_weights() for name in ("whole", "run")
    )
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    rows = [Run.read(tmp_path / name).metrics.rows() for name in ("whole", "run")]
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == other["loss"] and one["angle"] == other["angle"]


def test_other_frames_or_weights_are_another_run(frames, features, folder):
    fewer = dataclasses.replace(
        frames, names=frames.names[:4], pixels=frames.pixels[:4], normals=frames.normals[:4]
    )
    with pytest.raises(RunError, match="frames"):
        learn_normals(fewer, folder, features, RECIPE)
    with pytest.raises(RunError, match="seed"):
        learn_normals(frames, folder, features, RECIPE, seed=1)
    with pytest.raises(RunError, match="normals"):
        Run.read(folder, kind="contours")


def test_mixed_precision_ends_in_a_float32_model(frames, features, tmp_path):
    recipe = dataclasses.replace(RECIPE, dtype_policy="mixed_bfloat16", optimizer_steps=3)
    learn_normals(frames, tmp_path / "run", features, recipe)
    model = load_normals_model(tmp_path / "run").model
    assert {layer.compute_dtype for layer in model._flatten_layers(include_self=False)} == {
        "float32"
    }


def test_any_size_is_predicted_at_its_own_or_at_another(folder):
    predictor = load_normals_model(folder)
    pixels = draw_room(0)[0]
    for photograph in (pixels, pixels[:50], pixels[:, :31]):
        assert predictor.predict(photograph).shape == photograph.shape
    small, large = predictor.predict(pixels, (48, 64)), predictor.predict(pixels)
    assert small.shape == (48, 64, 3)
    # The same answer of the network, 48 x 64 pixels, and interpolated between them.
    assert np.median(angular_errors(large[::2, ::2], small)) < 5
    np.testing.assert_allclose(np.linalg.norm(small, axis=-1), 1, rtol=1e-5)


def test_the_network_sees_the_photograph_scaled():
    """A model that answers by what it is given, at 32 pixels: one side's colour, one normal."""

    seen = []

    def answer(photographs, training=False):
        seen.append(tuple(photographs.shape))
        is_red = photographs[..., :1] > 128
        return tf.where(is_red, [1.0, 0.0, 0.0], [0.0, 0.0, -1.0])

    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, 40:, 0] = 255
    normals = NormalsPredictor(answer, longer_side=32).predict(pixels)
    assert seen == [(1, 24, 32, 3)]
    np.testing.assert_allclose(normals[:, :38], np.broadcast_to([0, 0, -1], (60, 38, 3)), atol=1e-6)
    np.testing.assert_allclose(normals[:, 42:], np.broadcast_to([1, 0, 0], (60, 38, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, rtol=1e-5)


def test_what_is_no_photograph_is_refused(folder):
    predictor = load_normals_model(folder)
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"A photograph must be uint8.*Received: \w+ \["):
            predictor.predict(wrong)


def test_mean_normals_by_hand(tmp_path, frames):
    normals = np.zeros((2, 1, 3, 3), np.float16)
    normals[0, 0, 0], normals[1, 0, 0], normals[0, 0, 1] = (1, 0, 0), (0, 0, -1), (1, 0, 0)
    means = MeanNormals.of(dataclasses.replace(frames, normals=normals))
    means.save(tmp_path / "means")
    means = MeanNormals.load(tmp_path / "means")
    everywhere = np.array([2, 0, -1]) / np.sqrt(5)
    np.testing.assert_allclose(means.everywhere, everywhere, rtol=1e-6)
    half = np.sqrt(0.5)
    expected = [[(half, 0, -half), (1, 0, 0), everywhere]]
    np.testing.assert_allclose(means.by_position, expected, rtol=1e-6)
    found = {name: predict(None, (2, 3)) for name, predict in means.predictors().items()}
    np.testing.assert_allclose(found["mean"], np.broadcast_to(everywhere, (2, 3, 3)), rtol=1e-6)
    np.testing.assert_allclose(found["mean_by_position"][1], expected[0], atol=1e-6)


def test_a_run_keeps_the_means_of_what_it_learnt_from(folder, frames):
    kept, expected = MeanNormals.load(folder / "baselines.npz"), MeanNormals.of(frames)
    np.testing.assert_array_equal(kept.everywhere, expected.everywhere)
    np.testing.assert_array_equal(kept.by_position, expected.by_position)


def test_cells_lie_where_they_look(frames, features, tmp_path):
    """Wherever the sides of the map say they do."""
    recipe = dataclasses.replace(RECIPE, optimizer_steps=1)
    wrong = dataclasses.replace(features, offset=7.0)
    learn_normals(frames, tmp_path / "run", wrong, recipe)
    resizing = load_normals_model(tmp_path / "run").model.get_layer("resizing")
    assert (resizing.stride, resizing.offset) == (4, 0)


def test_a_plain_saved_model_is_learnt_from_as_well(frames, features, tmp_path):
    """Its weights are trained, and the model that is kept has them."""
    features.model.export(str(tmp_path / "network"), verbose=False)
    opened = open_feature_network(tmp_path / "network")
    recipe = dataclasses.replace(RECIPE, optimizer_steps=12, flip=False)
    learn_normals(frames, tmp_path / "run", opened, recipe)
    rows = Run.read(tmp_path / "run").metrics.rows()
    predictor = load_normals_model(tmp_path / "run")
    before = features.model.get_weights()[0]
    kernels = [one for one in predictor.model.get_weights() if one.shape == before.shape]
    assert len(kernels) == 1 and not np.array_equal(kernels[0], before)
    pixels = draw_room(0)[0]
    assert float(rows[0]["loss"]) > 0 and predictor.predict(pixels).shape == pixels.shape
