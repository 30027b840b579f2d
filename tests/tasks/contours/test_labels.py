"""What pixels are examples of, and photographs beside their ground truth."""

import cv2
import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.tasks.contours.labels import (
    CONTOUR,
    NONE,
    UNSURE,
    label_pixels,
    read_contour_images,
)
from tests.tasks.contours.test_formats import write_truth


def test_labels_by_hand():
    boundaries = np.zeros((2, 7, 9), bool)
    boundaries[0, :, 4] = boundaries[1, :, 5] = True
    expected = [NONE, NONE, NONE, UNSURE, CONTOUR, CONTOUR, UNSURE, NONE, NONE]
    assert label_pixels(boundaries).tolist() == [expected] * 7
    assert (label_pixels(boundaries, 3.0) == UNSURE).sum() == 4 * 7


@pytest.fixture
def place(tmp_path):
    """Gives a data set of two images."""
    lines = np.zeros((2, 20, 30), bool)
    lines[:, 10] = True
    for name in ("8", "21"):
        write_truth(tmp_path / f"groundTruth/val/{name}.mat", lines)
        path = tmp_path / f"images/val/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((20, 30, 3), int(name), np.uint8))
    return tmp_path


def test_photographs_lie_beside_what_was_drawn(place):
    images = read_contour_images(place, "val")
    assert images.names == ("21", "8")
    for name, pixels, boundaries in zip(
        images.names, images.pixels, images.boundaries, strict=True
    ):
        assert pixels.shape == (20, 30, 3)
        assert abs(float(pixels.mean()) - int(name)) < 2
        assert boundaries.sum() == 60


def test_photographs_may_be_elsewhere(place, tmp_path):
    (tmp_path / "images").rename(tmp_path / "photographs")
    images = read_contour_images(place, "val", place / "photographs")
    assert images.names == ("21", "8")
    assert [round(float(pixels.mean())) for pixels in images.pixels] == [21, 8]
    (place / "photographs/train").mkdir()
    again = place / "photographs/train/8.jpg"
    cv2.imwrite(str(again), np.full((20, 30, 3), 99, np.uint8))
    with pytest.raises(CollectionError, match=r"one photograph of a name.*8.jpg and .*8.jpg"):
        read_contour_images(place, "val", place / "photographs")
    again.unlink()
    (place / "photographs/val/21.jpg").unlink()
    with pytest.raises(CollectionError, match=r"photographs without 21 \(1 of 2 missing\)"):
        read_contour_images(place, "val", place / "photographs")


def test_what_is_missing_or_does_not_fit_is_named(place):
    (place / "images/val/8.jpg").unlink()
    with pytest.raises(CollectionError, match=r"without images/val/8.jpg \(1 of 2 missing\)"):
        read_contour_images(place)
    cv2.imwrite(str(place / "images/val/8.jpg"), np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(CollectionError, match=r"20x30 .* for 8.*8.jpg of 30x20"):
        read_contour_images(place)
    write_truth(place / "groundTruth/val/8.mat", np.zeros((3, 30, 20), bool))
    with pytest.raises(CollectionError, match="8: 3 empty maps"):
        read_contour_images(place)
