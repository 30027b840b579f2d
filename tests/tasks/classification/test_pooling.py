"""Quadrants and pyramids: against a plain loop, and under mirroring."""

import numpy as np
import pytest

from keras_ctxattr.tasks.classification.pooling import POOLINGS, bin_edges, pool_maps


def plain_pooling(maps, grids):
    """Asks of every cell in which bins it is, by the edges of both in sixteenths."""
    batch, rows, columns, channels = maps.shape
    found = []
    for size in grids:
        for row_bin in range(size):
            for column_bin in range(size):
                best = np.full([batch, channels], -np.inf)
                for row in range(rows):
                    for column in range(columns):
                        down = overlap(row, rows, row_bin, size)
                        across = overlap(column, columns, column_bin, size)
                        if down > 0 and across > 0:
                            best = np.maximum(best, maps[:, row, column])
                found.append(best)
    return np.stack(found, axis=1)


def overlap(cell, num_cells, number, num_bins):
    """Gives what a cell and a bin share, in units of 1 / (cells x bins)."""
    first = max(cell * num_bins, number * num_cells)
    return min((cell + 1) * num_bins, (number + 1) * num_cells) - first


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (4, 4), (5, 7), (9, 6), (1, 8)])
def test_pooling_is_that_of_a_plain_loop(name, shape):
    maps = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    found = np.asarray(pool_maps(maps, POOLINGS[name]))
    np.testing.assert_array_equal(found, plain_pooling(maps, POOLINGS[name]))


def test_quadrants_by_hand():
    cells = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    # The middle row and the middle column belong to both sides.
    assert np.asarray(pool_maps(cells, (2,)))[0, :, 0].tolist() == [7, 9, 12, 14]


@pytest.mark.parametrize("num_cells", range(1, 20))
@pytest.mark.parametrize("num_bins", [1, 2, 4])
def test_bins_cover_all_cells_are_even_and_never_empty(num_cells, num_bins):
    edges = bin_edges(num_cells, num_bins)
    sizes = [stop - start for start, stop in edges]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert set().union(*(range(*edge) for edge in edges)) == set(range(num_cells))
    assert edges == [(num_cells - stop, num_cells - start) for start, stop in reversed(edges)]
    if num_cells % num_bins == 0:
        assert sizes == [num_cells // num_bins] * num_bins


def test_a_mirrored_map_has_mirrored_bins():
    maps = np.random.default_rng(1).normal(size=(1, 5, 7, 2)).astype(np.float32)
    there = np.asarray(pool_maps(maps, (4,))).reshape(4, 4, 2)
    mirrored = np.asarray(pool_maps(maps[:, :, ::-1], (4,))).reshape(4, 4, 2)
    np.testing.assert_array_equal(mirrored, there[:, ::-1])


def test_a_pyramid_begins_with_the_whole_and_ends_with_its_finest_grid():
    maps = np.random.default_rng(2).normal(size=(3, 8, 8, 5)).astype(np.float32)
    found = np.asarray(pool_maps(maps, POOLINGS["pyramid"]))
    assert found.shape == (3, 21, 5)
    np.testing.assert_array_equal(found[:, 0], maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(found[:, 1], maps[:, :4, :4].max(axis=(1, 2)))
    np.testing.assert_array_equal(found[:, 20], maps[:, 6:, 6:].max(axis=(1, 2)))
