"""RoI max pooling: by hand, beside loops over every bin, and its gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_ctxattr.layers import RegionMaxPooling2D


def pool_slowly(maps, regions, size, stride, offset=0.0):
    """The released code's loops, for regions inside the image."""
    batch, rows, columns, channels = maps.shape
    result = np.zeros((*regions.shape[:2], size, size, channels), maps.dtype)
    for image in range(batch):
        for number, region in enumerate(regions[image]):
            edges = region - [0, 0, 1, 1]
            left, top, right, bottom = np.floor((edges - offset) / stride + 0.5).astype(int)
            left, right = np.clip([left, right], 0, columns - 1)
            top, bottom = np.clip([top, bottom], 0, rows - 1)
            height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
            for row in range(size):
                for column in range(size):
                    first = top + row * height // size
                    last = top + -(-(row + 1) * height // size)
                    start = left + column * width // size
                    end = left + -(-(column + 1) * width // size)
                    window = maps[image, first:last, start:end]
                    result[image, number, row, column] = window.max(axis=(0, 1))
    return result


def draw_regions(generator, count, height, width):
    corners = generator.uniform(0, 1, (2, count, 2, 2)) * [width, height]
    low, high = corners.min(axis=2), corners.max(axis=2)
    return np.concatenate([low, high + 1], axis=-1).astype("float32")


def test_a_region_of_whole_bins_gives_their_maxima():
    maps = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    regions = np.array([[[0, 0, 64, 64]]], "float32")
    pooled = RegionMaxPooling2D(size=2, stride=16)(maps, regions)
    assert np.array_equal(np.asarray(pooled)[0, 0, ..., 0], [[5, 7], [13, 15]])


def test_a_region_smaller_than_its_bins_repeats_its_cell():
    maps = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    regions = np.array([[[20, 36, 22, 40]]], "float32")  # around the cell of row 2, column 1
    pooled = RegionMaxPooling2D(size=3, stride=16)(maps, regions)
    assert np.all(np.asarray(pooled) == 9)


@pytest.mark.parametrize(("size", "rows", "columns"), [(6, 24, 32), (7, 13, 40), (1, 9, 5)])
def test_it_is_the_maximum_of_every_bin(size, rows, columns):
    generator = np.random.default_rng(size)
    maps = generator.normal(size=(2, rows, columns, 3)).astype("float32")
    regions = draw_regions(generator, 60, 16 * rows, 16 * columns)
    pooled = RegionMaxPooling2D(size=size, stride=16)(maps, regions)
    assert np.array_equal(pooled, pool_slowly(maps, regions, size, 16))


def test_an_offset_moves_regions_and_not_the_map():
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(2, 6, 9, 2)).astype("float32")
    regions = draw_regions(generator, 20, 200, 300)
    pooled = RegionMaxPooling2D(size=3, stride=32, offset=32)(maps, regions)
    assert np.array_equal(pooled, pool_slowly(maps, regions, 3, 32, 32))


def test_gradient_reaches_each_maximum_once():
    generator = np.random.default_rng(1)
    maps = tf.Variable(generator.normal(size=(1, 20, 30, 4)).astype("float32"))
    regions = draw_regions(generator, 25, 320, 480)[:1]
    layer = RegionMaxPooling2D(size=6, stride=16)
    with tf.GradientTape() as tape:
        pooled = layer(maps, regions)
    gradient = tape.gradient(pooled, maps).numpy()
    expected = np.zeros_like(gradient)
    values = maps.numpy()
    for region in np.asarray(pooled)[0].reshape(-1, 4):  # all values differ: each has one place
        for channel, value in enumerate(region):
            expected[values[..., channel] == value, channel] += 1
    assert np.array_equal(gradient, expected)


def test_a_map_larger_than_stated_gives_no_wrong_maximum():
    layer = RegionMaxPooling2D(size=2, stride=1, max_cells=4)
    open_map = keras.Input((None, None, 1))
    regions = keras.Input((None, 4))
    model = keras.Model([open_map, regions], layer(open_map, regions))
    whole = np.array([[[0, 0, 40, 40], [0, 0, 4, 4]]], "float32")
    pooled = np.asarray(model([np.ones((1, 40, 40, 1), "float32"), whole]))
    assert np.isnan(pooled[0, 0]).all()
    assert np.all(pooled[0, 1] == 1)
    with pytest.raises(ValueError, match="at most 4 cells"):
        RegionMaxPooling2D(max_cells=4)(np.ones((1, 5, 4, 1)), whole)


def test_half_precision_keeps_its_kind():
    layer = RegionMaxPooling2D(dtype="mixed_bfloat16")
    pooled = layer(ops.ones((1, 4, 4, 1), "bfloat16"), np.array([[[0, 0, 64, 64]]], "float32"))
    assert keras.backend.standardize_dtype(pooled.dtype) == "bfloat16"


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="`size` and `max_cells` must be at least 1"):
        RegionMaxPooling2D(size=0)
