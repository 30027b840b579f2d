"""Fragments of maps: every n-th cell, and back."""

import numpy as np
import pytest

from keras_ctxattr.layers import JoinedFragments2D, MapFragments2D


@pytest.mark.parametrize(("size", "shape"), [(1, (5, 4)), (2, (6, 4)), (2, (7, 3)), (3, (8, 7))])
def test_a_fragment_has_every_nth_cell_and_joining_puts_them_back(size, shape):
    maps = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype("float32")
    fragments = np.asarray(MapFragments2D(size)(maps))
    for row in range(size):
        for column in range(size):
            first = (row * size + column) * 2
            cells = maps[:, row::size, column::size]
            found = fragments[first : first + 2, : cells.shape[1], : cells.shape[2]]
            np.testing.assert_array_equal(found, cells)
    joined = np.asarray(JoinedFragments2D(size)(fragments))
    np.testing.assert_array_equal(joined[:, : shape[0], : shape[1]], maps)
    assert not joined[:, shape[0] :].any()
    assert not joined[:, :, shape[1] :].any()


@pytest.mark.parametrize("kind", [MapFragments2D, JoinedFragments2D])
def test_impossible_sizes_are_refused(kind):
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        kind(0)
