"""Training crops: labels lie in the middle of their windows, whatever way a crop is turned."""

import numpy as np
import pytest

from keras_ctxattr.tasks.contours.crops import MARGIN, PATCH, contour_batches
from keras_ctxattr.tasks.contours.labels import CONTOUR, NONE, ContourImages
from keras_ctxattr.tasks.contours.network import STRIDE
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs

RECIPE = ContourRecipe(positions=6, crops_per_batch=3)


def take(images, recipe=RECIPE, count=3, **options):
    return list(contour_batches(images, recipe, **options).take(count).as_numpy_iterator())


def mark_contours():
    """Gives photographs that are white exactly on their contours, grey near them, else black."""
    images = draw_discs()
    pixels = []
    for boundaries in images.boundaries:
        lines = boundaries.any(axis=0)
        pixels.append(np.repeat(np.where(lines, 255, 0)[..., None], 3, -1).astype("uint8"))
    return ContourImages(names=images.names, pixels=tuple(pixels), boundaries=images.boundaries)


@pytest.mark.parametrize("flip", [False, True])
def test_labels_are_of_the_pixels_in_the_middle(flip):
    recipe = ContourRecipe(positions=6, crops_per_batch=3, flip=flip)
    seen = set()
    for pixels, labels in take(mark_contours(), recipe, 8):
        middles = pixels[:, MARGIN : -MARGIN or None : STRIDE, MARGIN:-MARGIN:STRIDE, 0]
        assert middles.shape == labels.shape == (3, 6, 6)
        assert (middles[labels == CONTOUR] == 255).all()
        assert (middles[labels == NONE] == 0).all()
        seen |= set(np.unique(labels).tolist())
    assert {CONTOUR, NONE} <= seen


def test_turned_crops_are_those_of_the_photograph():
    images = draw_discs()
    plain = ContourRecipe(positions=6, crops_per_batch=3, flip=False)
    for (pixels, labels), (turned, places) in zip(
        take(images, plain), take(images, RECIPE), strict=True
    ):
        for one, label, other, place in zip(pixels, labels, turned, places, strict=True):
            ways = [
                (np.rot90(mirrored, k), np.rot90(grid, k))
                for mirrored, grid in ((one, label), (one[:, ::-1], label[:, ::-1]))
                for k in range(4)
            ]
            same = [np.array_equal(way, other) for way, _ in ways]
            assert sum(same) == 1
            np.testing.assert_array_equal(ways[same.index(True)][1], place)


def test_batches_from_a_step_on_are_the_same_and_follow_the_seed():
    images = draw_discs()
    whole, later = take(images, count=4), take(images, count=2, first_step=2)
    for expected, found in zip(whole[2:], later, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert any(
        (one[0] != other[0]).any()
        for one, other in zip(whole, take(images, count=4, seed=1), strict=True)
    )


def test_small_photographs_are_refused():
    small = draw_discs(shape=(120, 90))
    with pytest.raises(
        ValueError, match=r"must have 153 pixels a side for positions=20.*one of 90"
    ):
        contour_batches(small, ContourRecipe(positions=20))


def draw_alone():
    """Gives photographs that are white exactly on the contours of their one annotator."""
    images = mark_contours()
    boundaries = tuple(one.any(axis=0, keepdims=True) for one in images.boundaries)
    return ContourImages(names=images.names, pixels=images.pixels, boundaries=boundaries)


def test_there_are_no_more_patches_than_places():
    recipe = ContourRecipe(positions=3, crops_per_batch=2, patches_per_crop=32)
    for _, _, patches, places in take(draw_alone(), recipe, patches=True):
        assert patches.shape == (2, 9, PATCH, PATCH)
        assert places.shape == (2, 9)


@pytest.mark.parametrize("flip", [False, True])
def test_contour_patches_are_turned_as_their_crops(flip):
    recipe = ContourRecipe(positions=6, crops_per_batch=3, flip=flip, patches_per_crop=5)
    count = 0
    for pixels, labels, patches, places in take(draw_alone(), recipe, 8, patches=True):
        assert patches.shape == (3, 5, PATCH, PATCH)
        assert places.shape == (3, 5)
        for crop, label, own, numbers in zip(pixels, labels, patches, places, strict=True):
            assert len(set(numbers[numbers >= 0])) == np.count_nonzero(numbers >= 0)
            assert not own[numbers < 0].any()
            for patch, number in zip(own, numbers, strict=True):
                if number < 0:
                    continue
                row, column = divmod(number, 6)
                assert label[row, column] == CONTOUR
                top, left = (MARGIN - PATCH // 2 + STRIDE * one for one in (row, column))
                expected = crop[top : top + PATCH, left : left + PATCH, 0]
                np.testing.assert_array_equal(patch, expected)
                count += 1
    assert count > 10


def test_a_patch_is_one_annotators_who_drew_its_middle():
    """One drew a horizontal line, the other a vertical one; where they cross, either is given."""
    lines = np.zeros((2, 120, 120), bool)
    lines[0, 60], lines[1, :, 60] = True, True
    photograph = np.zeros((120, 120, 3), np.uint8)
    images = ContourImages(names=("1",), pixels=(photograph,), boundaries=(lines,))
    recipe = ContourRecipe(positions=6, crops_per_batch=16, flip=False)
    ways = np.zeros((2, PATCH, PATCH), np.uint8)
    ways[0, PATCH // 2], ways[1, :, PATCH // 2] = 255, 255
    seen = []
    for _, _, patches, places in take(images, recipe, 8, patches=True):
        matches = [(patches[places >= 0] == way).all(axis=(1, 2)) for way in ways]
        assert np.logical_xor(*matches).all()
        seen += matches[0].tolist()
    assert 0.3 < np.mean(seen) < 0.7


def test_patches_that_leave_the_photograph_are_not_given():
    lines = np.zeros((1, 120, 120), bool)
    lines[0, :, 10] = True  # no room for a patch on its left
    photograph = np.zeros((120, 120, 3), np.uint8)
    images = ContourImages(names=("1",), pixels=(photograph,), boundaries=(lines,))
    for _, labels, patches, places in take(images, count=4, patches=True):
        assert (places == -1).all()
        assert not patches.any()
        assert labels.shape == (3, 6, 6)
