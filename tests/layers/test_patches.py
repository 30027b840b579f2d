"""Patches are where their corners say, jittered evenly, and never outside their image."""

import numpy as np
import pytest

from keras_ctxattr.layers import PatchCutter
from tests import restatements as plain

SIZES = ((40, 200), (200, 40), (89, 90))  # wide, tall, filling the canvas
NUM_PIXELS = 89 * 90


@pytest.fixture(scope="module")
def collection():
    images = [plain.coordinate_image(*size, number) for number, size in enumerate(SIZES)]
    canvases = np.stack([plain.flat_canvas(image, NUM_PIXELS) for image in images])
    return images, canvases, np.array(SIZES, np.int32)


def test_patches_lie_where_their_corners_say(collection):
    images, canvases, sizes = collection
    corners = np.array(
        [(2, 0, 0), (0, 24, 184), (0, 3, 101), (1, 184, 24), (1, 77, 5), (2, 73, 74), (2, 10, 60)],
        np.int32,
    )
    patches = np.asarray(PatchCutter(16, jitter=0)(canvases, sizes, corners))
    assert patches.dtype == np.uint8
    for patch, (number, row, column) in zip(patches, corners, strict=True):
        np.testing.assert_array_equal(patch, plain.cut(images[number], (row, column), 16))
        assert tuple(patch[0, 0]) == (row, column, number)
        assert tuple(patch[15, 15]) == (row + 15, column + 15, number)


def test_jitter_is_uniform_in_plus_minus_seven_per_axis_and_different_for_every_patch(collection):
    images, canvases, sizes = collection
    corners = np.tile(np.array([[0, 12, 90], [1, 90, 12], [2, 40, 30]], np.int32), (1500, 1))
    patches = np.asarray(PatchCutter(16, jitter=7, seed=3)(canvases, sizes, corners))
    places = patches[:, 0, 0].astype(int)  # each patch's first pixel says where it is
    for patch, (row, column, number) in zip(patches[::50], places[::50], strict=True):
        np.testing.assert_array_equal(patch, plain.cut(images[number], (row, column), 16))
    np.testing.assert_array_equal(places[:, 2], corners[:, 0])
    shifts = places[:, :2] - corners[:, 1:]
    assert shifts.min() == -7
    assert shifts.max() == 7
    for axis in (0, 1):
        plain.assert_uniform(np.bincount(shifts[:, axis] + 7, minlength=15))
    # Rows and columns, and consecutive patches, are drawn apart from one another.
    plain.assert_uniform(np.bincount((shifts[:, 0] + 7) * 15 + shifts[:, 1] + 7, minlength=225))
    assert abs(np.corrcoef(shifts[:-1, 0], shifts[1:, 0])[0, 1]) < 0.06


def test_jittered_patches_are_moved_back_into_their_image(collection):
    images, canvases, sizes = collection
    corner_of = {0: (24, 184), 1: (184, 24), 2: (0, 0)}  # two far corners and a near one
    corners = np.array([(n, *corner_of[n]) for n in range(3)] * 400, np.int32)
    patches = np.asarray(PatchCutter(16, jitter=7, seed=4)(canvases, sizes, corners))
    places = patches[:, 0, 0].astype(int)
    np.testing.assert_array_equal(places[:, 2], corners[:, 0])
    for number, size in enumerate(SIZES):
        mine = places[places[:, 2] == number][:, :2]
        inside = [plain.clamp(place, size, 16) for place in mine.tolist()]
        np.testing.assert_array_equal(mine, inside)
        moved = np.abs(mine - corner_of[number])
        assert moved.max() == 7
        # Eight of the fifteen shifts end at the border: the shift is clamped, not redrawn.
        assert abs((moved[:, 0] == 0).mean() - 8 / 15) < 0.1
        assert abs((moved[:, 1] == 0).mean() - 8 / 15) < 0.1
    for patch, (row, column, number) in zip(patches[::40], places[::40], strict=True):
        np.testing.assert_array_equal(patch, plain.cut(images[number], (row, column), 16))


def test_corners_outside_the_image_are_moved_inside_per_axis(collection):
    images, canvases, sizes = collection
    corners = np.array([(0, -5, 300), (1, 300, -5), (2, -1, 20)], np.int32)
    patches = np.asarray(PatchCutter(16, jitter=0)(canvases, sizes, corners))
    for patch, (number, row, column) in zip(patches, corners.tolist(), strict=True):
        place = plain.clamp((row, column), SIZES[number], 16)
        np.testing.assert_array_equal(patch, plain.cut(images[number], place, 16))


def test_every_call_draws_anew_and_a_seed_repeats_the_draws(collection):
    _, canvases, sizes = collection
    corners = np.tile(np.array([[2, 40, 30]], np.int32), (50, 1))
    cutter = PatchCutter(16, jitter=7, seed=5)
    first, second = (np.asarray(cutter(canvases, sizes, corners)) for _ in range(2))
    assert not np.array_equal(first, second)
    again = np.asarray(PatchCutter(16, jitter=7, seed=5)(canvases, sizes, corners))
    np.testing.assert_array_equal(first, again)
    other = np.asarray(PatchCutter(16, jitter=7, seed=6)(canvases, sizes, corners))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"patch_size": 0}, "patch_size=0"), ({"jitter": -1}, "jitter=-1")],
)
def test_bad_arguments_are_named_with_their_value(arguments, named):
    with pytest.raises(ValueError, match=named):
        PatchCutter(**arguments)
