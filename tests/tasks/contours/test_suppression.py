"""Non-maximum suppression: by hand, and against a plain restatement."""

import math

import numpy as np
import pytest

from keras_ctxattr.tasks.contours.suppression import directions_across, suppress_non_maxima


def draw_ridge(angle, side=61):
    """A ridge through the middle; `angle` is the direction across it, in degrees."""
    rows, columns = np.indices((side, side)) - side // 2
    across = columns * math.cos(math.radians(angle)) + rows * math.sin(math.radians(angle))
    return np.exp(-((across / 2.5) ** 2))


@pytest.mark.parametrize("angle", [0, 30, 45, 60, 90, 120, 150])
def test_directions_are_across_the_ridge(angle):
    ridge = draw_ridge(angle)
    turned = np.angle(np.exp(2j * (directions_across(ridge) - math.radians(angle)))) / 2
    near = ridge > 0.3  # within three pixels of the crest; at its foot curvature changes its sign
    near[:8] = near[-8:] = near[:, :8] = near[:, -8:] = False
    assert np.abs(turned[near]).max() < math.radians(4)


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
def test_crests_stay_and_slopes_go(angle):
    ridge = draw_ridge(angle)
    kept = suppress_non_maxima(ridge)
    middle = slice(20, 41)
    assert kept[30, 30] == 1
    marked = kept[middle, middle] > 0
    assert 21 <= marked.sum() <= 3 * 21
    assert ridge[middle, middle][marked].min() > 0.6


def restated(scores, radius, margin):
    """One pixel after the other."""
    across = directions_across(scores)
    height, width = scores.shape
    kept = np.zeros_like(scores)

    def value(row, column):
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
        top, left = min(int(row), height - 2), min(int(column), width - 2)
        down, right = row - top, column - left
        above = scores[top, left] * (1 - right) + scores[top, left + 1] * right
        below = scores[top + 1, left] * (1 - right) + scores[top + 1, left + 1] * right
        return above * (1 - down) + below * down

    for row in range(height):
        for column in range(width):
            angle = across[row, column]
            beside = [
                value(row + far * math.sin(angle), column + far * math.cos(angle))
                for far in range(-radius, radius + 1)
                if far
            ]
            if scores[row, column] * 1.01 >= max(beside):
                fade = 1.0
                for place, side in ((row, height), (column, width)):
                    fade *= min(place, side - 1 - place, margin) / margin
                kept[row, column] = scores[row, column] * fade
    return kept


@pytest.mark.parametrize("radius", [1, 2])
def test_it_is_the_plain_restatement(radius):
    scores = np.random.default_rng(0).random((24, 31)).astype("float32")
    expected = restated(scores, radius, 5)
    found = suppress_non_maxima(scores, radius=radius)
    # A pixel may fall either way where it equals its neighbour to the last digits.
    assert (np.abs(found - expected) > 1e-5).mean() < 0.003


def test_edges_fade_and_tiny_maps_are_refused():
    flat = suppress_non_maxima(np.ones((20, 30)))
    assert flat[0].max() == flat[:, -1].max() == 0
    assert flat[2, 15] == pytest.approx(0.4)
    assert flat[10, 15] == 1
    assert suppress_non_maxima(np.ones((4, 30)), margin=5).shape == (4, 30)
    with pytest.raises(ValueError, match=r"2 pixels a side or more.*\(1, 5\)"):
        suppress_non_maxima(np.ones((1, 5)))
