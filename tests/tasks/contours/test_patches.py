"""Colour patches and what was drawn in them."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_ctxattr.tasks.contours.crops import PATCH
from keras_ctxattr.tasks.contours.labels import CONTOUR, NONE, ContourImages
from keras_ctxattr.tasks.contours.learning import learn_contours, load_contour_network
from keras_ctxattr.tasks.contours.network import (
    WINDOW,
    contour_network,
    unpadded_network,
    window_of,
)
from keras_ctxattr.tasks.contours.patches import MIDDLE, patch_batches
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs, make_attributes
from training.configs import load_recipe

RECIPE = ContourRecipe(
    examples="patches",
    patches_per_batch=10,
    widths=(4, 5, 6, 7),
    hidden_units=8,
    optimizer_steps=20,
    dtype_policy="float32",
)


def take(images, recipe=RECIPE, count=3, **options):
    return list(patch_batches(images, recipe, **options).take(count).as_numpy_iterator())


def draw_white(annotators=1):
    """Gives photographs that are white exactly on their contours, the same for all annotators."""
    images = draw_discs()
    lines = [one[0] for one in images.boundaries]
    return ContourImages(
        names=images.names,
        pixels=tuple(
            np.repeat(np.where(one, 255, 0)[..., None], 3, -1).astype("u1") for one in lines
        ),
        boundaries=tuple(np.repeat(one[None], annotators, axis=0) for one in lines),
    )


@pytest.mark.parametrize("flip", [False, True])
def test_half_are_contours_and_turned_with_what_was_drawn(flip):
    recipe = dataclasses.replace(RECIPE, flip=flip)
    cut = 0
    for pixels, labels, drawn, places in take(draw_white(3), recipe, 8, patches=True):
        assert pixels.shape == (10, PATCH, PATCH, 3)
        assert labels.ravel().tolist() == [CONTOUR, NONE] * 5
        np.testing.assert_array_equal(pixels[:, MIDDLE, MIDDLE, 0] == 255, labels[:, 0, 0] == 1)
        assert (places[1::2] == -1).all() and not drawn[1::2].any()
        for patch, own, place in zip(pixels, drawn[:, 0], places[:, 0], strict=True):
            if place == 0:
                # The binary patch is centred on its own middle, a pixel before the network's.
                np.testing.assert_array_equal(own[:-1, :-1], patch[1:, 1:, 0])
                cut += 1
    assert cut > 10


def test_every_place_is_taken_once_a_pass():
    lines = np.zeros((1, 60, 60), bool)
    lines[0, 30, 10:40] = True
    photograph = np.zeros((60, 60, 3), np.uint8)
    photograph[..., 0], photograph[..., 1] = np.indices((60, 60))
    images = ContourImages(names=("1",), pixels=(photograph,), boundaries=(lines,))
    recipe = dataclasses.replace(RECIPE, flip=False, patches_per_batch=20)
    batches = take(images, recipe, 6)
    for start in (0, 3):  # 30 contours, ten a batch
        middles = np.concatenate(
            [one[0][::2, MIDDLE, MIDDLE] for one in batches[start : start + 3]]
        )
        assert sorted(middles[:, 1].tolist()) == list(range(10, 40))
        assert (middles[:, 0] == 30).all()


def test_batches_from_a_step_on_are_the_same_and_follow_the_seed():
    whole, later = take(draw_white(), count=4), take(draw_white(), count=2, first_step=2)
    for expected, found in zip(whole[2:], later, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert any(
        (one[0] != other[0]).any()
        for one, other in zip(whole, take(draw_white(), count=4, seed=1), strict=True)
    )


def test_a_padded_network_is_centred_as_the_other():
    """With convolutions that pass on their middle alone, both see the same square around it."""
    padded = contour_network(0, dataclasses.replace(RECIPE, normalize=False), padded=True)
    for layer in padded.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            kernel[:] = 0
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
            layer.set_weights([kernel, bias])
    plain = unpadded_network(padded, dataclasses.replace(RECIPE, normalize=False))
    seen = []
    for network, side, middle in ((padded, PATCH, MIDDLE), (plain, WINDOW, WINDOW // 2)):
        base = np.full((1, side, side, 3), 128, np.float32)
        resting = float(network(base)[0, 0, 0, 0])
        offsets = []
        for offset in range(-12, 13):
            changed = base.copy()
            changed[0, middle + offset, middle] = 255
            if float(network(changed)[0, 0, 0, 0]) != resting:
                offsets.append(offset)
        seen.append(offsets)
    assert seen[0] == seen[1] == list(range(-7, 8))


def test_a_network_learns_of_patches_and_pads_nothing_afterwards(tmp_path):
    images = draw_discs()
    summary = learn_contours(images, tmp_path / "run", RECIPE, attributes=make_attributes())
    assert summary["steps"] == 20
    assert 0 <= summary["bits_found"] <= 1
    network = load_contour_network(tmp_path / "run")
    assert network.compute_output_shape((1, WINDOW, WINDOW, 3)) == (1, 1, 1, 9)


def test_the_papers_recipe_takes_steps_of_the_papers_rates(tmp_path):
    recipe = dataclasses.replace(
        load_recipe("contours_paper", ContourRecipe),
        widths=(4, 5, 6, 7),
        patches_per_batch=6,
        optimizer_steps=6,
        drop_steps=2,
        dtype_policy="float32",
    )
    learn_contours(draw_discs(), tmp_path / "run", recipe, callbacks=[rates := Rates()])
    np.testing.assert_allclose(rates.seen, [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001], rtol=1e-5)
    assert window_of(load_contour_network(tmp_path / "run")) == 135


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def test_crops_are_not_for_networks_that_see_beyond_them(tmp_path):
    recipe = dataclasses.replace(RECIPE, examples="crops", local_response=True, positions=6)
    with pytest.raises(ValueError, match='give `examples="patches"`'):
        learn_contours(draw_discs(), tmp_path / "run", recipe)


def test_unknown_examples_are_refused():
    with pytest.raises(ValueError, match="`examples` must be one of crops, patches"):
        ContourRecipe(examples="pixels")
