"""Purity, coverage and their comparison at equal sizes."""

import subprocess
import sys

import numpy as np
import pytest

from keras_ctxattr.clustering import metrics


def test_purity_counts_the_most_frequent_class_of_each_cluster():
    labels = np.array([0, 0, 0, 1, 1, 2, -1, -1])
    truth = np.array([3, 3, 1, 0, 1, 2, 0, 0])
    assert metrics.purity(labels, truth) == pytest.approx((2 + 1 + 1) / 6)
    assert metrics.coverage(labels) == pytest.approx(6 / 8)


def test_pure_clusters_and_single_samples_are_1():
    truth = np.array([0, 0, 1, 1, 2])
    assert metrics.purity(truth, truth) == 1 and metrics.nmi(truth, truth) == pytest.approx(1)
    assert metrics.purity(np.arange(5), truth) == 1


def test_nothing_clustered_is_nan_and_coverage_0():
    none = np.full(4, -1)
    assert np.isnan(metrics.purity(none, np.zeros(4, int)))
    assert np.isnan(metrics.nmi(none, np.zeros(4, int)))
    assert metrics.coverage(none) == 0


def test_naming_the_clusters_anew_changes_nothing():
    generator = np.random.default_rng(0)
    labels, truth = generator.integers(-1, 6, 300), generator.integers(0, 4, 300)
    names = generator.permutation(6)
    renamed = np.where(labels < 0, -1, names[labels])
    assert metrics.purity(renamed, truth) == metrics.purity(labels, truth)
    assert metrics.nmi(renamed, truth) == pytest.approx(metrics.nmi(labels, truth))


def test_random_clusters_of_five_in_ten_balanced_classes_score_about_36_per_cent():
    truth = np.repeat(np.arange(10), 1000)
    labels = metrics.random_clusters(np.full(1500, 5), 10_000, seed=0)
    assert metrics.cluster_sizes(labels).tolist() == [5] * 1500
    assert metrics.purity(labels, truth) == pytest.approx(0.36, abs=0.01)


def test_cutting_keeps_the_most_typical_and_gives_the_sizes_asked_for():
    members = [np.array([4, 2]), np.array([9, 8, 7, 6, 5]), np.array([1, 0, 3])]
    labels = metrics.cut_to_sizes(members, np.array([2, 3, 1]), 10)
    assert labels.tolist() == [1, 1, -1, -1, 2, -1, -1, 0, 0, 0]


def test_what_small_clusters_cannot_give_comes_from_the_others():
    members = [np.array([0, 1, 2, 3, 4, 5]), np.array([6])]
    labels = metrics.cut_to_sizes(members, np.array([3, 3]), 8)
    assert labels.tolist() == [0, 0, 0, 0, 0, -1, 1, -1]
    assert metrics.coverage(labels) == 6 / 8


def test_too_few_members_are_refused():
    with pytest.raises(ValueError, match="2 clusters of 3 for 2 of 4"):
        metrics.cut_to_sizes([np.array([0, 1]), np.array([2])], np.array([2, 2]), 5)


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        metrics.purity(np.zeros(3, int), np.zeros(4, int))


def test_importing_the_metrics_does_not_load_tensorflow():
    code = "import sys, keras_ctxattr.clustering.metrics; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
