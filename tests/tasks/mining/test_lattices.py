"""Where patches lie: by hand, and laws."""

import numpy as np
import pytest

from keras_ctxattr.tasks.mining.lattices import Lattice


def test_patches_of_a_photograph_by_hand():
    lattice = Lattice(patch_size=64, stride=32, num_pixels=128 * 192, scales=(1.0,))
    assert lattice.shapes(256, 384) == [(3, 5)]  # halved: 128 x 192
    boxes = lattice.boxes(256, 384)
    assert boxes[0].tolist() == [0, 0, 128, 128]  # a patch of 64 is 128 pixels of the photograph
    assert boxes[1].tolist() == [64, 0, 192, 128]
    assert boxes[5].tolist() == [0, 64, 128, 192]
    assert boxes[-1].tolist() == [256, 128, 384, 256]


def test_constellations_are_two_by_two_and_touch():
    lattice = Lattice(patch_size=64, stride=32, num_pixels=128 * 192, scales=(1.0,))
    boxes = lattice.boxes(256, 384)
    (found,) = lattice.constellations(256, 384)
    assert len(found) == 1 * 3
    assert boxes[found[1]].tolist() == [
        [64, 0, 192, 128],
        [192, 0, 320, 128],
        [64, 128, 192, 256],
        [192, 128, 320, 256],
    ]


@pytest.mark.parametrize("size", [(313, 500), (96, 96), (60, 61), (37, 2000), (3000, 1000)])
def test_laws_of_any_photograph(size):
    height, width = size
    lattice = Lattice()
    shapes, boxes = lattice.shapes(height, width), lattice.boxes(height, width)
    assert len(boxes) == sum(rows * columns for rows, columns in shapes)
    assert boxes.min() >= 0
    np.testing.assert_allclose(boxes[:, 2:].max(axis=0), [width, height], rtol=1e-5)
    first = 0
    for (rows, columns), found in zip(shapes, lattice.constellations(height, width), strict=True):
        assert min(rows, columns) > lattice.steps
        assert len(found) == (rows - lattice.steps) * (columns - lattice.steps)
        assert found.min() >= first
        first += rows * columns
        assert found.max() < first
        # Proportions: off by no more than half a stride a side.
        tall, wide = lattice.sides((rows, columns))
        assert abs(wide - tall * width / height) <= lattice.stride * (1 + width / height) / 2 + 1
        corners = boxes[found]
        np.testing.assert_allclose(corners[:, 0, 2], corners[:, 1, 0], atol=1e-2)
        np.testing.assert_allclose(corners[:, 0, 3], corners[:, 2, 1], atol=1e-2)
        np.testing.assert_allclose(corners[:, 3, :2], corners[:, 0, 2:], atol=1e-2)


def test_scales_without_room_for_a_constellation_are_left_out():
    lattice = Lattice(patch_size=96, stride=32, num_pixels=200 * 200)
    assert len(lattice.shapes(200, 200)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 36}, "`stride` must divide `patch_size`. Received: stride=36"),
        ({"num_pixels": 9000}, "at least a patch, 9216"),
        ({"scales": (0.5,)}, "`scales` must fall from 1"),
        ({"scales": (1.0, 0.5, 0.7)}, "`scales` must fall from 1"),
        ({"scales": ()}, "`scales` must fall from 1"),
    ],
)
def test_impossible_lattices_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Lattice(**changes)
