"""A contour run: learnt, interrupted, resumed, loaded."""

import keras
import numpy as np
import pytest

from keras_ctxattr.runs import RunError
from keras_ctxattr.tasks.contours.labels import CONTOUR, label_pixels
from keras_ctxattr.tasks.contours.learning import (
    contour_detector,
    learn_contours,
    load_contour_network,
)
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs

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
    scores = detect(photograph.pixels[0])[..., 0]
    labels = label_pixels(photograph.boundaries[0])
    on, off = scores[labels == CONTOUR].mean(), scores[labels == 0].mean()
    assert on > off + 0.3


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
