"""The measurement of the batched SVMs, on a small problem: that it compares the same thing."""

import numpy as np
import pytest

from evaluation import speed_svm
from tests.clustering import plain

SMALL = speed_svm.Problem(num_clusters=16, num_negatives=1200, num_features=40)


@pytest.fixture(scope="module")
def figures():
    return speed_svm.measure(SMALL, num_timed=4)


def test_every_figure_has_value_baseline_and_ratio(figures):
    assert set(figures) == {
        "svm",
        "svm_growth_clusters",
        "svm_growth_negatives",
        "svm_peak_memory",
    }
    for one in figures.values():
        assert one["ratio"] == pytest.approx(one["value"] / one["baseline"])
        assert all(np.isfinite(value) for value in one.values())


def test_both_sides_reach_the_same_minimum(figures):
    assert -1e-4 < figures["svm"]["objective_gap"] < 1e-3
    assert figures["svm"]["sign_agreement"] >= 0.999


def test_growth_is_measured_at_three_sizes_and_drawn(figures):
    for name, whole in (("clusters", 16), ("negatives", 1200)):
        figure = figures[f"svm_growth_{name}"]
        sizes = [int(key.split("_")[1]) for key in figure if key.startswith("seconds_")]
        assert sizes == [whole // 4, whole // 2, whole]
    picture = speed_svm.growth_picture(figures)
    assert picture.shape[1:] == (640, 3) and picture.std() > 10


def test_memory_stays_under_its_bound(figures):
    assert figures["svm_peak_memory"]["ratio"] < 1


def test_the_objective_is_that_of_the_plain_restatement():
    positives, ids, negatives, _ = SMALL.draw()
    weights = np.random.default_rng(0).standard_normal(41)
    expected = plain.objective(weights, positives[ids == 3], negatives)
    assert speed_svm.objective(weights, positives[ids == 3], negatives) == pytest.approx(expected)


def test_the_loop_is_liblinear_at_the_stated_settings():
    positives, ids, negatives, _ = SMALL.draw()
    found = speed_svm.fit_one(positives[ids == 0], negatives)
    np.testing.assert_allclose(found, plain.fit_one(positives[ids == 0], negatives), atol=1e-2)
