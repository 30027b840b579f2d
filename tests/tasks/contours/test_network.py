"""The contour network: what it sees, what has no gradient, one pass for every pixel."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.tasks.contours.crops import MARGIN
from keras_ctxattr.tasks.contours.learning import build_learner, contour_detector
from keras_ctxattr.tasks.contours.network import (
    STRIDE,
    WINDOW,
    balanced_cross_entropy,
    contour_network,
    window_of,
)
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs

RECIPE = ContourRecipe(widths=(4, 5, 6, 7), hidden_units=8, dtype_policy="float32")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    made = contour_network(3, RECIPE)
    generator = np.random.default_rng(1)
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    return made


def test_an_output_sees_its_window_and_nothing_else(network):
    assert network.compute_output_shape((1, WINDOW, WINDOW, 3)) == (1, 1, 1, 4)
    side = WINDOW + 2 * STRIDE
    assert network.compute_output_shape((2, side, WINDOW, 3)) == (2, 3, 1, 4)
    pixels = tf.Variable(
        np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)), dtype="float32"
    )
    with tf.GradientTape() as tape:
        middle = tf.reduce_sum(network(pixels)[0, 1, 1])
    seen = np.abs(tape.gradient(middle, pixels)[0]).sum(-1) > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert rows.min() >= STRIDE and rows.max() < STRIDE + WINDOW
    assert rows.max() - rows.min() > WINDOW - 8  # (a pixel of a corner may lose every maximum)
    assert columns.min() >= STRIDE and columns.max() < STRIDE + WINDOW


def test_one_pass_gives_what_each_window_gives(network):
    """A thousand pixels inside and all corners and edges, where the photograph is mirrored."""
    photograph = draw_discs(1).pixels[0]
    found = contour_detector(network)(photograph)
    height, width = photograph.shape[:2]
    assert found.shape == (height, width, 4)
    generator = np.random.default_rng(1)
    places = generator.integers(0, [height, width], (1000, 2))
    edges = [(row, column) for row in (0, 1, height - 1) for column in (0, 2, width - 1)]
    places = np.concatenate([places, edges])
    padded = np.pad(photograph, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), (0, 1))
    for some in np.array_split(places, 16):
        seen = np.moveaxis(windows[some[:, 0], some[:, 1]], 1, -1).astype("float32")
        expected = 1 / (1 + np.exp(-np.asarray(network(seen))[:, 0, 0]))
        np.testing.assert_allclose(found[some[:, 0], some[:, 1]], expected, atol=1e-4)


def test_with_local_response_normalisation_one_pass_gives_what_each_window_gives():
    recipe = dataclasses.replace(RECIPE, local_response=True, normalize=False)
    keras.utils.set_random_seed(0)
    network = contour_network(1, recipe)
    window = window_of(network)
    assert window == 135
    assert network.compute_output_shape((1, window, window, 3)) == (1, 1, 1, 2)
    photograph = draw_discs(1).pixels[0]
    found = contour_detector(network)(photograph)
    margin = (window // 2, window // 2)
    padded = np.pad(photograph, (margin, margin, (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), (0, 1))
    height, width = photograph.shape[:2]
    places = np.random.default_rng(1).integers(0, [height, width], (60, 2))
    seen = np.moveaxis(windows[places[:, 0], places[:, 1]], 1, -1).astype("float32")
    expected = 1 / (1 + np.exp(-np.asarray(network(seen))[:, 0, 0]))
    np.testing.assert_allclose(found[places[:, 0], places[:, 1]], expected, atol=1e-4)


def test_what_is_unsure_or_missing_has_no_gradient():
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 2, (2, 5, 5)).astype("int8")
    attributes = generator.integers(-1, 2, (2, 5, 5, 3)).astype("int8")
    logits = tf.Variable(generator.normal(0, 1, (2, 5, 5, 4)), dtype="float32")
    learner = build_learner(RECIPE, num_attributes=3)
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(y=(labels, attributes), y_pred=logits)
    gradient = tape.gradient(loss, logits).numpy()
    known = np.concatenate([labels[..., None], attributes], -1) >= 0
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).all()


def test_contours_weigh_as_much_as_all_else():
    labels = np.array([1, 0, 0, 0, 0, -1])
    logits = np.array([2.0, -1, -1, -1, -1, 50], "float32")
    one, other = np.log1p(np.exp(-2)), np.log1p(np.exp(-1))
    loss = balanced_cross_entropy(labels, logits, 0.3, axes=None)
    assert float(loss) == pytest.approx(0.3 * one + 0.7 * other, rel=1e-6)
    assert float(balanced_cross_entropy(labels * 0 - 1, logits, 0.3, axes=None)) == 0


def test_every_attribute_is_balanced_by_itself():
    labels = np.array([[1, -1], [0, -1], [0, 1]])
    logits = np.zeros((3, 2), "float32")
    losses = balanced_cross_entropy(labels, logits, 0.5, axes=(0,))
    assert np.allclose(losses, [np.log(2), np.log(2) / 2])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"widths": (1, 2, 3)}, "`widths` four"),
        ({"positions": 0}, "positions=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"contour_share": 0.0}, "contour_share=0.0"),
        ({"optimizer": "lion"}, "`optimizer` must be one of adam, sgd"),
        ({"drop_steps": 0}, "`drop_steps` must be at least 1"),
    ],
)
def test_impossible_recipes_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        ContourRecipe(**changes)
