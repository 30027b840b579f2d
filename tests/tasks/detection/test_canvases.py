"""Photographs on canvases: an image whose pixels are their own coordinates proves the geometry."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.tasks.detection.canvases import lay_on_canvas, mirror_boxes, scaled_size

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
COORDINATES = np.stack([COLUMNS, ROWS, np.full_like(ROWS, 255)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "longer_side", "expected"),
    [([40, 60], 30, [20, 30]), ([60, 40], 30, [30, 20]), ([1, 500], 100, [1, 100])],
)
def test_the_longer_side_is_as_asked(size, longer_side, expected):
    assert scaled_size(tf.constant(size), longer_side).numpy().tolist() == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [([375, 500], [600, 800]), ([100, 500], [200, 1000]), ([9, 9], [600, 600])],
)
def test_the_shorter_side_is_as_asked_as_far_as_the_longer_one_allows(size, expected):
    assert scaled_size(tf.constant(size), 1000, 600).numpy().tolist() == expected


def test_an_image_of_that_size_lies_as_it_is_and_zeros_around_it():
    canvas = lay_on_canvas(COORDINATES, tf.constant([HEIGHT, WIDTH]), 64).numpy()
    np.testing.assert_array_equal(canvas[:HEIGHT, :WIDTH], COORDINATES)
    assert not canvas[HEIGHT:].any() and not canvas[:, WIDTH:].any()


@pytest.mark.parametrize("scale", [0.5, 2])
def test_a_scaled_place_shows_what_was_there(scale):
    size = np.array([HEIGHT * scale, WIDTH * scale], np.int32)
    canvas = lay_on_canvas(COORDINATES, tf.constant(size), 128).numpy().astype(float)
    rows, columns = np.mgrid[2 : size[0] - 2, 2 : size[1] - 2]
    # The centre of a pixel, row + 1/2, is scaled.
    np.testing.assert_allclose(canvas[rows, columns, 1], (rows + 0.5) / scale - 0.5, atol=0.6)
    np.testing.assert_allclose(canvas[rows, columns, 0], (columns + 0.5) / scale - 0.5, atol=0.6)


def test_a_mirrored_box_holds_the_same_pixels():
    left, top, right, bottom = 5, 7, 20, 30
    held = COORDINATES[top:bottom, left:right]
    (box,) = mirror_boxes(tf.constant([[left, top, right, bottom]], tf.float32), WIDTH).numpy()
    assert box.tolist() == [40, 7, 55, 30]
    left, top, right, bottom = box.astype(int)
    mirrored = COORDINATES[:, ::-1][top:bottom, left:right]
    np.testing.assert_array_equal(mirrored, held[:, ::-1])
