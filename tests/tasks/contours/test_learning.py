"""A contour run: learnt, interrupted, resumed, loaded."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.tasks.contours.labels import CONTOUR, UNSURE, label_pixels
from keras_ctxattr.tasks.contours.learning import (
    build_learner,
    contour_detector,
    learn_contours,
    load_code_book,
    load_contour_network,
)
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs, make_attributes

RECIPE = ContourRecipe(
    widths=(6, 8, 8, 8),
    hidden_units=8,
    dropout=0.0,
    positions=8,
    crops_per_batch=3,
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
def images():
    return draw_discs()


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "contours"
    learn_contours(images, place, RECIPE)
    return place


def test_outlines_are_told_from_the_rest(images, folder):
    detect = contour_detector(load_contour_network(folder))
    photograph = draw_discs(1, seed=7)  # not learnt from
    chances = detect(photograph.pixels[0])[..., 0]
    labels = label_pixels(photograph.boundaries[0])
    prior = Run.read(folder).summary["prior"]
    # As likely as if contours were as frequent as other pixels.
    scores = chances * (1 - prior) / (chances * (1 - prior) + (1 - chances) * prior)
    on, off = scores[labels == CONTOUR].mean(), scores[labels == 0].mean()
    assert on > off + 0.3


def test_chances_are_those_of_the_photographs(images, folder):
    """Training shows contours as often as all else; chances are corrected for it."""
    detect = contour_detector(load_contour_network(folder))
    chances, contours = [], []
    for pixels, boundaries in zip(images.pixels, images.boundaries, strict=True):
        labels = label_pixels(boundaries)
        chances.append(detect(pixels)[..., 0][labels != UNSURE])
        contours.append(labels[labels != UNSURE] == CONTOUR)
    prior = np.mean(np.concatenate(contours))
    assert Run.read(folder).summary["prior"] == pytest.approx(prior)
    assert prior / 3 < np.mean(np.concatenate(chances)) < prior * 3


def test_the_same_call_again_does_nothing_and_another_is_refused(images, folder):
    again = learn_contours(images, folder, RECIPE)
    assert (again["steps"], again["num_images"]) == (60, 3)
    assert 0 <= again["contours_found"] <= 1
    with pytest.raises(RunError, match="seed"):
        learn_contours(images, folder, RECIPE, seed=1)


def test_an_interrupted_run_ends_as_if_it_had_not_been(images, folder, tmp_path):
    recipe = ContourRecipe(**{**vars(RECIPE), "checkpoint_minutes": 1e-9})
    with pytest.raises(InterruptionError):
        learn_contours(images, tmp_path / "run", recipe, callbacks=[StopAfter(7)])
    with pytest.raises(RunError, match="not finished"):
        load_contour_network(tmp_path / "run")
    learn_contours(images, tmp_path / "run", recipe)
    whole, resumed = (load_contour_network(one).get_weights() for one in (folder, tmp_path / "run"))
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_kinds_are_learnt_after_contours(images, folder, tmp_path):
    """Straight from the first network's weights; resumed to the same; with the book beside."""
    attributes, start = make_attributes(), load_contour_network(folder)
    recipe = ContourRecipe(**{**vars(RECIPE), "checkpoint_minutes": 1e-9, "optimizer_steps": 120})
    options = {"attributes": attributes, "start": start}
    summary = learn_contours(images, tmp_path / "whole", recipe, **options)
    assert summary["num_attributes"] == 8
    assert summary["bits_found"] > 0.6
    with pytest.raises(InterruptionError):
        learn_contours(images, tmp_path / "run", recipe, **options, callbacks=[StopAfter(7)])
    learn_contours(images, tmp_path / "run", recipe, **options)
    whole, resumed = (
        load_contour_network(tmp_path / one).get_weights() for one in ("whole", "run")
    )
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(load_code_book(tmp_path / "run").codes, attributes.book.codes)
    assert load_code_book(folder) is None
    module = tf.saved_model.load(str(tmp_path / "run/module"))
    maps = module(tf.constant(images.pixels[0][None] / 255, tf.float32))
    assert maps["attributes"].shape == (1, 120, 150, 8)
    assert 0 < tf.reduce_max(maps["patches"]) <= 1
    with pytest.raises(RunError, match="attributes"):
        learn_contours(images, tmp_path / "run", recipe, attributes=make_attributes(seed=1))


def test_training_begins_with_the_weights_given(images, folder, tmp_path):
    start = load_contour_network(folder)
    recipe = ContourRecipe(**{**vars(RECIPE), "optimizer_steps": 1, "learning_rate": 1e-30})
    learn_contours(images, tmp_path / "run", recipe, start=start)
    found = load_contour_network(tmp_path / "run")
    np.testing.assert_allclose(
        found.get_layer("logits").get_weights()[1],
        start.get_layer("logits").get_weights()[1],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        found.get_layer("conv1").get_weights()[0], start.get_layer("conv1").get_weights()[0]
    )


def test_a_start_of_other_widths_is_refused(images, tmp_path):
    other = ContourRecipe(**{**vars(RECIPE), "widths": (4, 8, 8, 8)})
    with pytest.raises(ValueError, match=r"the layers of the recipe.*conv1 with"):
        learn_contours(images, tmp_path / "run", RECIPE, start=build_learner(other).network)


def test_photographs_without_contours_are_refused(tmp_path):
    images = draw_discs()
    empty = dataclasses.replace(images, boundaries=tuple(one & False for one in images.boundaries))
    with pytest.raises(ValueError, match=r"contours in the photographs.*0 pixels on contours"):
        learn_contours(empty, tmp_path / "run", RECIPE)
