"""Purity and coverage: by hand, and laws."""

import numpy as np
import pytest

from keras_ctxattr.tasks.mining.metrics import purity_coverage, select_sets


def rows(*sets):
    return [np.array(one) for one in sets]


def test_sets_are_chosen_that_cover_once_before_twice():
    sets = rows([0, 1], [0, 1], [1, 2], [3], [2, 3])
    # 0 and 1; the second adds none; 2; 3; the last adds none. Then twice: the second, the last.
    assert select_sets(sets, 4, 10) == [0, 2, 3, 1, 4]
    assert select_sets(sets, 4, 2) == [0, 2]


def test_an_image_twice_in_a_set_is_covered_once():
    assert select_sets(rows([0, 0], [0]), 1, 3) == [0, 1]


def test_a_curve_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], bool)
    found = purity_coverage(rows([0, 2], [0, 1]), labels)
    np.testing.assert_allclose(found["purity"], [1, 0.75])  # the second set is purer
    np.testing.assert_allclose(found["coverage"], [0.5, 0.75])
    assert found["area_to_half"] == pytest.approx(0.5)
    assert found["area"] == pytest.approx(0.5 + 0.25 * (1 + 0.75) / 2)


def test_pure_sets_of_everything_have_area_one():
    found = purity_coverage(rows([0, 1], [2, 3]), np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))
    assert found["area"] == pytest.approx(1)
    assert found["area_to_half"] == pytest.approx(0.5)


def test_the_area_to_half_ends_between_points():
    labels = np.eye(2, dtype=bool)[[0, 0, 0, 1, 0]]
    found = purity_coverage(rows([0], [1, 2, 3]), labels)
    at_half = 1 + (0.5 - 0.2) / 0.6 * (found["purity"][1] - 1)
    assert found["area_to_half"] == pytest.approx(0.2 + 0.3 * (1 + at_half) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_curves_fall_in_purity_and_rise_in_coverage(seed):
    generator = np.random.default_rng(seed)
    sets = [generator.choice(50, 6, replace=False) for _ in range(20)]
    found = purity_coverage(sets, np.eye(4, dtype=bool)[generator.integers(0, 4, 50)])
    assert (np.diff(found["purity"]) <= 1e-12).all()
    assert (np.diff(found["coverage"]) >= 0).all()
    assert 0 < found["area_to_half"] <= found["area"] <= 1


def test_empty_sets_are_refused():
    with pytest.raises(ValueError, match="1 sets, 1 of them empty"):
        purity_coverage(rows([]), np.ones((1, 1)))
