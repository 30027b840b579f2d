"""Batches of normals: photograph and normals stay together, and every step is its own."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.tasks.normals.batches import change_frame, normals_batches
from keras_ctxattr.tasks.normals.frames import LabelledFrames, flip_normals
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

RECIPE = NormalsRecipe(frames_per_batch=3, max_zoom=1.6, colour_jitter=0.0)
HEIGHT, WIDTH = 48, 64


def coordinates():
    """A photograph and "normals" that both tell where they are from: 3 row, 3 column."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    pixels = np.stack([3 * rows, 3 * columns, rows * 0 + 50], axis=-1).astype(np.uint8)
    return pixels, np.stack([columns, rows, rows * 0 + 1], axis=-1).astype(np.float32)


def change(recipe, step):
    pixels, normals = coordinates()
    key = tf.constant([0, step], tf.int64)
    shown, found = change_frame(tf.constant(pixels), tf.constant(normals), recipe, key)
    return shown.numpy().astype(float), found.numpy()


def test_photograph_and_normals_are_cropped_to_the_same_place():
    recipe = dataclasses.replace(RECIPE, flip=False)
    sizes = []
    for step in range(20):
        shown, found = change(recipe, step)
        # The nearest pixel is at most half a pixel away, the photograph is rounded.
        assert np.abs(shown[..., 0] / 3 - found[..., 1]).max() < 0.9
        assert np.abs(shown[..., 1] / 3 - found[..., 0]).max() < 0.9
        sizes.append(np.ptp(found[..., 1]) + 1)
    assert min(sizes) < 34 and max(sizes) > 44 and min(sizes) >= 30


def test_a_mirrored_photograph_has_mirrored_normals():
    """Half of the frames; what pointed right points left."""
    whole = dataclasses.replace(RECIPE, max_zoom=1.0)
    pixels, normals = coordinates()
    flipped = 0
    for step in range(30):
        shown, found = change(whole, step)
        if found[0, 0, 0] == 0 and found[0, -1, 0] > 0:
            np.testing.assert_array_equal(shown, pixels)
            np.testing.assert_array_equal(found, normals)
        else:
            flipped += 1
            np.testing.assert_array_equal(shown, pixels[:, ::-1])
            np.testing.assert_array_equal(found, flip_normals(normals))
    assert 8 < flipped < 22


def test_colours_change_channel_by_channel_and_normals_do_not():
    recipe = dataclasses.replace(RECIPE, max_zoom=1.0, flip=False, colour_jitter=0.3)
    pixels, normals = coordinates()
    gains = []
    for step in range(10):
        shown, found = change(recipe, step)
        np.testing.assert_array_equal(found, normals)
        gain = shown[40, 50] / pixels[40, 50]
        np.testing.assert_allclose(shown, np.minimum(pixels * gain, 255), atol=2)
        gains.append(gain)
    assert np.min(gains) >= 0.68 and np.max(gains) <= 1.32 and np.std(gains) > 0.1
    assert np.std(gains[0]) > 0.01


@pytest.fixture
def frames():
    generator = np.random.default_rng(0)
    return LabelledFrames(
        names=tuple("abcde"),
        pixels=generator.integers(0, 256, (5, 24, 32, 3), dtype=np.uint8),
        normals=np.arange(5, dtype=np.float16)[:, None, None, None]
        + np.zeros((5, 24, 32, 3), "f2"),
    )


def take(batches, count):
    return [[part.numpy() for part in batch] for batch in batches.take(count)]


def test_batches_can_be_entered_anywhere(frames):
    whole = take(normals_batches(frames, RECIPE, seed=4), 5)
    rest = take(normals_batches(frames, RECIPE, seed=4, first_step=3), 2)
    for one, other in zip(whole[3:], rest, strict=True):
        for part, again in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, again)
    other = take(normals_batches(frames, RECIPE, seed=5), 1)
    assert not np.array_equal(other[0][0], whole[0][0])


def test_a_pass_takes_every_frame_once(frames):
    recipe = dataclasses.replace(RECIPE, frames_per_batch=5, flip=False)
    orders = []
    for _, normals in take(normals_batches(frames, recipe), 3):
        assert normals.shape == (5, 24, 32, 3) and normals.dtype == np.float16
        orders.append(normals[:, 0, 0, 0].astype(int).tolist())
        assert sorted(orders[-1]) == [0, 1, 2, 3, 4]
    assert orders[0] != orders[1] or orders[1] != orders[2]
