"""The memory of clustering, as a formula and as a process takes it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering.memory import memory_of_stages, peak_memory_bytes

PARAMETERS = DiscriminativeClustering(
    samples_per_cluster=16, num_growths=2, num_iterations=2, normalize=True, cache_bytes=1 << 22
).get_params()


def stages(count=100_000, features=64, **changes):
    given = {**PARAMETERS, **changes}
    return memory_of_stages(given, num_samples=count, num_features=features, num_threads=2)


def test_the_peak_is_that_of_the_largest_stage():
    sizes = {"num_samples": 50_000, "num_features": 32}
    assert peak_memory_bytes(PARAMETERS, **sizes) == max(
        memory_of_stages(PARAMETERS, **sizes).values()
    )


def test_full_seeding_by_hand():
    """10 000 rows of 64 twice, and 625 centres 5 times, and 256 rows of distances a thread."""
    found = stages(40_000, seeding="full")["seeding"] - (32 << 20) - 120 * 40_000
    assert found == 4 * 64 * (2 * 10_000 + 5 * 625) + 4 * 256 * 2 * 625


def test_every_stage_grows_with_samples_features_and_clusters():
    before = stages()
    for changed in (stages(count=200_000), stages(samples_per_cluster=8)):
        assert all(changed[name] >= before[name] for name in before)
    assert all(stages(features=128)[name] > before[name] for name in before)


def test_with_as_many_clusters_more_samples_cost_their_numbers_alone():
    many = stages(count=10**7, samples_per_cluster=1600)
    more = stages(count=2 * 10**7, samples_per_cluster=3200)
    for name in ("measuring", "seeding", "training", "scoring"):
        assert more[name] - many[name] == 120 * 10**7


def test_fewer_negatives_need_less_and_more_than_there_are_the_same():
    whole = stages(cache_bytes=1 << 30)
    assert stages(cache_bytes=1 << 30, max_negatives=100)["training"] < whole["training"]
    assert stages(max_negatives=10**6) == stages()


def test_each_device_has_its_own_cache_and_mini_batches_need_less():
    one, two = stages(devices=["CPU:0"]), stages(devices=["CPU:0", "CPU:1"])
    assert two["training"] > one["training"]
    whole, parts = (stages(seeding=kind)["seeding"] for kind in ("full", "minibatch"))
    assert parts < whole


@pytest.mark.slow  # two processes that cluster
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_process_takes_no_more_than_the_formula_and_no_less_than_a_third(tmp_path):
    generator = np.random.default_rng(0)
    centres = 1.5 * generator.standard_normal((100, 64), np.float32)
    for count in (6000, 18_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for start in range(0, count, 3000):
            rows = centres[generator.integers(0, 100, 3000)]
            rows += generator.standard_normal(rows.shape, np.float32)
            np.save(folder / f"{start:06d}.npy", rows)
        command = [sys.executable, "-m", "evaluation.clusters_memory", "--features", str(folder)]
        command += ["--cache-bytes", str(1 << 22), "--samples-per-cluster", "16"]
        answer = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},  # as the formula has it
        )
        found = 1e6 * json.loads(answer.stdout.splitlines()[-1])["megabytes"]
        bound = peak_memory_bytes(PARAMETERS, num_samples=count, num_features=64)
        assert bound / 3 < found < bound
