"""Clustering of more samples than memory holds: seeds, memory and devices.

The samples lie around a few hundred centres, in shards on the disk.

- `clusters_seeding`: samples per second that k-means in mini-batches makes seeds of; its baseline
  is k-means of all at once. `clusters_seeding_inertia`, likewise: mean squared distance to the
  nearest centre; a ratio above 1 is what mini-batches lose.
- `clusters_purity`, `clusters_coverage`: of `DiscriminativeClustering` from either seeds, by the
  centres that the samples were drawn around.
- `clusters_memory_N`: megabytes that clustering N samples adds to a process of its own, at its
  highest; the baseline is what `keras_ctxattr.clustering.memory` says of it. oneDNN is off, as
  that formula has it; `clusters_memory_N_onednn` is the largest N with it.
- `clusters_svm_devices`: SVMs per second that two logical processors of one core each solve; the
  baseline is one of them. `same_bits` is 1 where both found the same.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import clusters_memory
from keras_ctxattr.clustering import rows as clustering_rows
from keras_ctxattr.clustering.memory import memory_of_stages
from keras_ctxattr.clustering.metrics import coverage, purity
from keras_ctxattr.clustering.seeding import run_kmeans
from keras_ctxattr.data.shards import ShardedArray

Measurements = dict[str, dict[str, float]]

_SHARD_ROWS = 8192
_DEADLINE = 900  # seconds that a process may take
_SEEDS = 1 << 40  # bytes: whatever the samples take, they are seeded as is said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is clustered.

    Attributes:
        num_seeded: samples that seeds are made of, both ways.
        num_samples: sizes at which memory is measured.
        num_features: of a sample.
        num_concepts: centres that samples lie around.
        samples_per_cluster: samples of a half for each seed.
        cache_bytes: memory for negatives, less than they take.
        num_clusters: SVMs that are divided over devices.
        num_negatives: of theirs.
        seed: of the draws.
    """

    num_seeded: int = 40_000
    num_samples: Sequence[int] = (20_000, 60_000)
    num_features: int = 64
    num_concepts: int = 300
    samples_per_cluster: int = 16
    cache_bytes: int = 1 << 22
    num_clusters: int = 1024
    num_negatives: int = 10_000
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = _measure_seeding(workload, folder / "seeded")
        for count in workload.num_samples:
            write_samples(workload, count, folder / str(count))
            found[f"clusters_memory_{count}"] = _measure_memory(workload, count, folder, "0")
        found[f"clusters_memory_{count}_onednn"] = _measure_memory(workload, count, folder, "1")
    return found | {"clusters_svm_devices": _measure_devices(workload)}


def write_samples(workload: Workload, count: int, folder: Path) -> tuple[ShardedArray, np.ndarray]:
    """Writes shards of samples, and gives (them, float32; the centre of each, int64).

    Args:
        workload: what they are like.
        count: how many.
        folder: new.
    """
    folder.mkdir()
    generator = np.random.default_rng(workload.seed)
    shape = (workload.num_concepts, workload.num_features)
    centres = 1.5 * generator.standard_normal(shape, np.float32)
    concepts = generator.integers(0, len(centres), count)
    for start in range(0, count, _SHARD_ROWS):
        rows = centres[concepts[start : start + _SHARD_ROWS]]
        rows += generator.standard_normal(rows.shape, np.float32)
        np.save(folder / f"{start:09d}.npy", rows)
    return ShardedArray(sorted(folder.glob("*.npy"))), concepts


# --- Seeds ---


def _measure_seeding(workload: Workload, folder: Path) -> Measurements:
    table, concepts = write_samples(workload, workload.num_seeded, folder)
    mean, scale = clustering_rows.measure(table)
    numbers = np.arange(len(table))
    rows = clustering_rows.Rows(table=table, numbers=numbers, mean=mean, scale=scale)
    num_centres = len(rows) // workload.samples_per_cluster
    config = clusters_memory.Config(features=folder, **_flags(workload, cache_bytes=1 << 30))
    seconds, inertia, purities, coverages = {}, {}, {}, {}
    for seeding in ("full", "minibatch"):
        start = time.perf_counter()
        _, distances = run_kmeans(rows, num_centres, workload.seed, _SEEDS, seeding)
        seconds[seeding] = time.perf_counter() - start
        inertia[seeding] = float(np.square(distances, dtype=np.float64).mean())
        labels = config.make_clustering(seeding).fit(table).labels_
        purities[seeding], coverages[seeding] = purity(labels, concepts), coverage(labels)
    rates = {seeding: len(rows) / taken for seeding, taken in seconds.items()}
    named = {"": rates, "_inertia": inertia}
    return {f"clusters_seeding{name}": _beside(**figures) for name, figures in named.items()} | {
        "clusters_purity": _beside(**purities),
        "clusters_coverage": _beside(**coverages),
    }


def _beside(*, full: float, minibatch: float) -> dict[str, float]:
    return {"value": minibatch, "baseline": full, "ratio": minibatch / full}


# --- Memory ---


def _measure_memory(workload: Workload, count: int, folder: Path, onednn: str) -> dict[str, float]:
    shards = folder / str(count)
    flags = _flags(workload, cache_bytes=workload.cache_bytes)
    told = _run_apart(
        "clusters_memory", {"features": shards, **flags}, TF_ENABLE_ONEDNN_OPTS=onednn
    )
    config = clusters_memory.Config(features=shards, **flags)
    stages = memory_of_stages(
        config.make_clustering().get_params(),
        num_samples=count,
        num_features=workload.num_features,
    )
    value, baseline = told["megabytes"], max(stages.values()) / 1e6
    return {
        "value": value,
        "baseline": baseline,
        "ratio": value / baseline,
        "seconds": told["seconds"],
    }


def _flags(workload: Workload, cache_bytes: int) -> dict[str, Any]:
    return {
        "samples_per_cluster": workload.samples_per_cluster,
        "cache_bytes": cache_bytes,
        "seed": workload.seed,
    }


# --- Devices ---


def _measure_devices(workload: Workload) -> dict[str, float]:
    counts = ("num_clusters", "num_negatives", "seed")
    flags = {name: getattr(workload, name) for name in counts}
    one, two = (_run_apart("svm_devices", {**flags, "num_devices": count}) for count in (1, 2))
    rates = [workload.num_clusters / told["seconds"] for told in (two, one)]
    return {
        "value": rates[0],
        "baseline": rates[1],
        "ratio": rates[0] / rates[1],
        "same_bits": float(one["digest"] == two["digest"]),
    }


def _run_apart(module: str, flags: Mapping[str, Any], **variables: str) -> dict[str, Any]:
    """Gives the line of JSON that a program of ours prints, in a process of its own."""
    command = [sys.executable, "-m", f"evaluation.{module}"]
    for name, value in flags.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    # With CTXATTR_DEBUG `evaluation` leaves TensorFlow unstarted.
    answer = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        env={**os.environ, "CTXATTR_DEBUG": "1", **variables},
    )
    return json.loads(answer.stdout.splitlines()[-1])
