"""The measurement of clustering at size, on little: that it compares the same thing."""

import subprocess

import numpy as np
import pytest

from evaluation import clusters_memory, speed_clusters_at_size, svm_devices
from evaluation.speed_clusters_at_size import Workload, write_samples

SMALL = Workload(
    num_seeded=1600,
    num_samples=(1000, 2000),
    num_features=16,
    num_concepts=12,
    samples_per_cluster=10,
    cache_bytes=1 << 16,
    num_clusters=16,
    num_negatives=400,
)


@pytest.mark.slow  # five processes that each start TensorFlow
def test_every_figure_has_value_baseline_and_ratio():
    figures = speed_clusters_at_size.measure(SMALL)
    assert set(figures) == {
        "clusters_seeding",
        "clusters_seeding_inertia",
        "clusters_purity",
        "clusters_coverage",
        "clusters_memory_1000",
        "clusters_memory_2000",
        "clusters_memory_2000_onednn",
        "clusters_svm_devices",
    }
    for one in figures.values():
        assert one["ratio"] == pytest.approx(one["value"] / one["baseline"])
        assert all(np.isfinite(value) for value in one.values())
    assert figures["clusters_svm_devices"]["same_bits"] == 1
    assert 0.9 < figures["clusters_seeding_inertia"]["ratio"] < 1.3
    assert all(figures[f"clusters_memory_{count}"]["ratio"] < 1 for count in SMALL.num_samples)


def test_samples_lie_around_their_centres(tmp_path):
    table, concepts = write_samples(SMALL, 1600, tmp_path / "whole")
    assert table.shape == (1600, 16) and table.dtype == np.float32
    np.testing.assert_array_equal(np.unique(concepts), np.arange(12))
    means = np.stack([table[concepts == number].mean(axis=0) for number in range(12)])
    distances = np.linalg.norm(table[:][:, None] - means, axis=2)
    assert np.mean(distances.argmin(axis=1) == concepts) > 0.95
    again, _ = write_samples(SMALL, 1600, tmp_path / "again")
    np.testing.assert_array_equal(again[:], table[:])


def test_a_process_that_fails_says_which_and_ends_the_measurement(tmp_path):
    with pytest.raises(subprocess.CalledProcessError, match="clusters_memory"):
        speed_clusters_at_size._run_apart("clusters_memory", {"features": tmp_path / "none"})


@pytest.mark.parametrize("count", ["samples_per_cluster", "cache_bytes"])
def test_counts_of_clustering_below_one_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match="at least 1"):
        clusters_memory.Config(features=tmp_path, **{count: 0})


def test_counts_of_devices_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        svm_devices.Config(num_devices=0)
