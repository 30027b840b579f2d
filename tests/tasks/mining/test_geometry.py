"""Constellations: by hand, against a search over all squares, and laws."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from keras_ctxattr.tasks.mining.geometry import fit_squares, verify_constellations

SQUARE = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)


@pytest.mark.parametrize("scale", [2 / 3, 1.0, 4 / 3])
@pytest.mark.parametrize("shift", [(0, 0), (300, -70)])
def test_squares_within_the_bounds_have_no_error(scale, shift):
    side, error = fit_squares(96 * scale * SQUARE + shift, np.full(4, 96.0))
    assert side == pytest.approx(96 * scale)
    assert error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("scale", "bound"), [(0.3, 2 / 3), (2.0, 4 / 3)])
def test_a_side_out_of_bounds_is_that_of_the_bound(scale, bound):
    side, error = fit_squares(scale * SQUARE, np.ones(4))
    assert side == pytest.approx(bound)
    # Every corner is off by the difference of the half diagonals.
    assert error == pytest.approx(2 * (scale - bound) ** 2 / bound**2)


def test_shuffled_patches_do_not_verify():
    """Of the 24 orders only the true one is near a square; one exchange alone is too far."""
    orders = list(itertools.permutations(range(4)))
    verified = verify_constellations(SQUARE[orders], np.ones((24, 4)))
    assert [order for order, is_one in zip(orders, verified, strict=True) if is_one] == [
        (0, 1, 2, 3)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_no_other_square_is_nearer(seed):
    generator = np.random.default_rng(seed)
    centres, sides = generator.normal(0, 1, (4, 2)) + SQUARE, generator.uniform(0.5, 2, 4)
    side, error = fit_squares(centres, sides)

    def squared_error(square):
        corners = square[:2] + square[2] * (SQUARE - 0.5)
        return ((centres - corners) ** 2).sum()

    mean = sides.mean()
    bounds = [(None, None), (None, None), (2 / 3 * mean, 4 / 3 * mean)]
    best = minimize(squared_error, [*centres.mean(axis=0), mean], bounds=bounds, tol=1e-14)
    assert side == pytest.approx(best.x[2], rel=1e-4)
    assert error * side**2 == pytest.approx(best.fun, rel=1e-6)


def test_the_error_does_not_depend_on_place_and_unit():
    generator = np.random.default_rng(0)
    centres, sides = generator.normal(0, 1, (30, 4, 2)), generator.uniform(1, 2, (30, 4))
    one, other = fit_squares(centres, sides), fit_squares(5 * centres + [9, -2], 5 * sides)
    np.testing.assert_allclose(other[0], 5 * one[0])
    np.testing.assert_allclose(other[1], one[1])
    apart = [fit_squares(*pair)[1] for pair in zip(centres, sides, strict=True)]
    np.testing.assert_allclose(one[1], apart)


def test_what_is_no_constellation_is_refused():
    with pytest.raises(ValueError, match=r"`centres` must be \[..., 4, 2\]"):
        fit_squares(np.zeros((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="`sides` must be over 0"):
        fit_squares(SQUARE, np.zeros(4))
