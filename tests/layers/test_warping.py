"""Warped regions: an image whose pixels are their own coordinates, and pixel by pixel."""

import numpy as np
import pytest

from keras_ctxattr.layers import CropProcessing, PatchProcessing, RegionWarping

SIZES = np.array([[40, 60], [64, 32]], "int32")


def flatten(images, pixels=3000):
    """Gives images as flat canvases."""
    canvases = np.zeros((len(images), pixels, 3), images[0].dtype)
    for canvas, image in zip(canvases, images, strict=True):
        canvas[: image.shape[0] * image.shape[1]] = image.reshape(-1, 3)
    return canvases


def noise():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def coordinates():
    """Each pixel holds (x, y) of its centre, and the number of its image."""
    images = []
    for number, (height, width) in enumerate(SIZES):
        rows, columns = np.mgrid[:height, :width] + 0.5
        images.append(np.stack([columns, rows, np.full_like(rows, number)], -1))
    return [image.astype("float32") for image in images]


def warp_one(image, region, size, context):
    """Warps a region as the words say, a pixel at a time."""
    height, width = image.shape[:2]
    left, top, right, bottom = (float(edge) for edge in region)
    crop, inside = np.zeros((size, size, 3)), np.zeros((size, size, 1))
    for row in range(size):
        for column in range(size):
            # The region spans the pixels of the crop from `context` to `size - context`.
            x = left + (right - left) * (column + 0.5 - context) / (size - 2 * context)
            y = top + (bottom - top) * (row + 0.5 - context) / (size - 2 * context)
            if not (0 <= x <= width and 0 <= y <= height):
                continue
            inside[row, column] = 1
            x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
            for i in (int(y), min(int(y) + 1, height - 1)):
                for j in (int(x), min(int(x) + 1, width - 1)):
                    share = max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
                    # At a border both neighbours are one pixel, which counts once.
                    same = (min(int(y) + 1, height - 1) == int(y)) + 1
                    same *= (min(int(x) + 1, width - 1) == int(x)) + 1
                    crop[row, column] += image[i, j] * share / same
    return crop, inside


@pytest.mark.parametrize(("size", "context"), [(12, 2), (15, 0), (9, 3)])
def test_crops_equal_those_made_pixel_by_pixel(size, context):
    images = noise()
    regions = [[3, 4, 30, 20], [0.7, 10.2, 31, 64], [-20, 30, 15, 70], [5, 5, 7, 8], [70, 1, 90, 9]]
    places = np.array([0, 1, 1, 0, 0])
    regions = np.array(regions, "float32")
    crops, inside = RegionWarping(size, context)(flatten(images), SIZES, regions, places)
    for number, (region, place) in enumerate(zip(regions, places, strict=True)):
        expected, mask = warp_one(images[place], region, size, context)
        np.testing.assert_allclose(crops[number], expected, atol=2e-3)
        np.testing.assert_array_equal(inside[number], mask)


def test_pixels_come_from_where_the_region_is():
    regions = np.array([[10, 8, 50, 32], [4, 16, 28, 48]], "float32")
    crops, inside = RegionWarping(20, 2)(flatten(coordinates()), SIZES, regions, np.array([0, 1]))
    assert np.asarray(inside).all()
    for number, (left, top, right, bottom) in enumerate(regions):
        centres = (np.arange(20) + 0.5 - 2) / 16
        x, y = left + (right - left) * centres, top + (bottom - top) * centres
        np.testing.assert_allclose(crops[number, ..., 0], np.tile(x, (20, 1)), atol=1e-4)
        np.testing.assert_allclose(crops[number, ..., 1], np.tile(y, (20, 1)).T, atol=1e-4)
        np.testing.assert_allclose(crops[number, ..., 2], number)


def test_a_whole_image_at_its_own_size_is_itself():
    images = [np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)]
    region = np.array([[0, 0, 24, 24]], "float32")
    crops, _ = RegionWarping(24, 0)(flatten(images), np.array([[24, 24]]), region, np.array([0]))
    np.testing.assert_array_equal(crops[0], images[0])


def test_a_region_the_other_way_round_is_mirrored():
    canvases, places = flatten(noise()), np.array([0, 1, 1])
    regions = np.array([[3, 4, 30, 20], [0.7, 10.2, 31, 64], [-20, 30, 15, 70]], "float32")
    layer = RegionWarping(14, 3)
    crops, inside = layer(canvases, SIZES, regions, places)
    mirrored, others = layer(canvases, SIZES, regions[:, [2, 1, 0, 3]], places)
    np.testing.assert_array_equal(mirrored, crops[:, :, ::-1])
    np.testing.assert_array_equal(others, inside[:, :, ::-1])


def test_mirrored_crops_are_crops_of_the_mirrored_image():
    images, places = noise(), np.array([0, 1])
    regions = np.array([[3, 4, 30, 20], [-5, 10.5, 31, 64]], "float32")
    widths = SIZES[places, 1]
    moved = np.stack([widths - regions[:, 0], regions[:, 1], widths - regions[:, 2], regions[:, 3]])
    layer = RegionWarping(14, 3)
    crops, _ = layer(flatten([image[:, ::-1] for image in images]), SIZES, regions, places)
    others, _ = layer(flatten(images), SIZES, moved.T.astype("float32"), places)
    np.testing.assert_allclose(crops, others, atol=2e-3)


def test_impossible_numbers_are_named():
    with pytest.raises(ValueError, match="context=16"):
        RegionWarping(32, 16)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_a_crop_that_is_all_inside_is_processed_like_a_patch(preset):
    crops = np.random.default_rng(2).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    expected = PatchProcessing(preset, "project", downsampling=0.0)(crops)
    found = CropProcessing(preset, "project")(crops, np.ones((3, 16, 16, 1), "float32"))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("preset", ["released", "paper", "unit"])
def test_what_is_outside_stays_zero_and_changes_nothing(preset):
    crops = np.random.default_rng(3).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    inside = np.zeros((2, 16, 16, 1), "float32")
    inside[0, :9, 4:] = 1  # the other is outside altogether
    found = np.asarray(CropProcessing(preset)(crops, inside))
    alone = CropProcessing(preset)(crops[:1, :9, 4:], inside[:1, :9, 4:])
    np.testing.assert_allclose(found[:1, :9, 4:], alone, atol=1e-3)
    assert not found[1].any()
    assert not found[0, 9:].any()
    assert not found[0, :, :4].any()
