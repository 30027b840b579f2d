"""Search among ten million codes: exact, and by inverted lists in memory, on the disk, in shards.

Codes are synthetic: clustered ones are those of random centres, a thousand to each, with a tenth of
the bits flipped; random ones have nothing that lists could use, the worst case. Queries are drawn
as the codes are, and are none of them. The kinds are `exact` (all codes compared), `memory` and
`disk` (inverted lists, read or mapped; of the disk, the files were read before), `cold` (mapped,
the pages of the file dropped before) and `shards` (four inverted indexes of a quarter each,
mapped). The baseline is `exact`, and ratio = value / baseline:

- `large_KIND_p50`, `_p99`: milliseconds of a single query for 100 neighbours.
- `large_KIND_batch`: queries a second in one call.
- `large_KIND_recall`: share of the 100 nearest that are found at the default number of lists; what
  is as near as the last of them counts. `_overlap`: share of the very codes that exact search
  finds, of which ties take some.
- `large_KIND_build`: seconds until the index can be searched; of `disk` and `shards`, of building
  the folders; of `memory`, of reading one.
- `large_KIND_memory`: bytes a code, measured in a process of its own; what is mapped does not
  count. `large_build_memory`: megabytes that building a folder takes at its highest, beside those
  of the exact index. `large_disk_bytes`: bytes a code of the folder, beside those of the codes.
- `large_probes_N` (clustered) and `large_random_probes_N`: recall of N lists; `_p50`: its
  milliseconds.
"""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from evaluation.speed_context import Measurements
from keras_ctxattr.search import (
    HammingIndex,
    InvertedHammingIndex,
    invert_codes,
    open_inverted,
    open_sharded,
)
from keras_ctxattr.search.index import CodeIndex
from keras_ctxattr.search.recall import COUNT, recall_of

_FLIPPED = 0.1
_CLUSTER_CODES = 1000
_AT_A_TIME = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is searched.

    Attributes:
        num_codes: In the index, at least 1000.
        num_singles: Queries that are looked up one by one, of each kind.
        num_queries: Queries of a batch.
        num_bits: Of a code.
        num_shards: Indexes of `shards`.
        probes: Numbers of lists that recall is measured of.
        seed: Of codes and queries.
    """

    num_codes: int = 10_000_000
    num_singles: int = 200
    num_queries: int = 1_000
    num_bits: int = 64
    num_shards: int = 4
    probes: tuple[int, ...] = (1, 4, 16, 64, 256)
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    with tempfile.TemporaryDirectory() as name:
        return _measure_clustered(workload, Path(name)) | _measure_random(workload)


def draw_codes(count: int, workload: Workload, *, clustered: bool, seed: int) -> np.ndarray:
    """Draws codes of the workload's clusters, or uniformly.

    Args:
        count: How many.
        workload: How long, and of how many clusters.
        clustered: Whether they are of clusters.
        seed: Of these codes; the clusters are those of the workload's seed.

    Returns:
        Uint8 `[count, num_bits / 8]`.
    """
    num_bytes = workload.num_bits // 8
    generator = np.random.default_rng([workload.seed, seed])
    if not clustered:
        return generator.integers(0, 256, (count, num_bytes), np.uint8)
    num_clusters = max(1, workload.num_codes // _CLUSTER_CODES)
    centres = np.random.default_rng(workload.seed).integers(
        0, 256, (num_clusters, num_bytes), np.uint8
    )
    codes = centres[generator.integers(0, num_clusters, count)]
    for start in range(0, count, _AT_A_TIME):
        part = codes[start : start + _AT_A_TIME]
        flips = generator.random((len(part), workload.num_bits), np.float32) < _FLIPPED
        part ^= np.packbits(flips, axis=1)
    return codes


# --- Clustered codes: all kinds ---


def _measure_clustered(workload: Workload, folder: Path) -> Measurements:
    codes = draw_codes(workload.num_codes, workload, clustered=True, seed=1)
    queries = draw_codes(workload.num_queries, workload, clustered=True, seed=2)
    np.save(folder / "codes.npy", codes)
    np.save(folder / "queries.npy", queries)
    indexes: dict[str, CodeIndex] = {}
    built: dict[str, float] = {}
    for kind, make in _makers(codes, folder, workload.num_shards).items():
        began = time.perf_counter()
        indexes[kind] = make()
        built[kind] = time.perf_counter() - began
    found = _compare(built, "build")
    found |= _measure_latency(indexes, queries[: workload.num_singles], folder)
    found |= _measure_batches(indexes, queries)
    found |= _measure_probes(indexes["memory"], indexes["exact"], queries, workload, "large")
    return found | _measure_memory(workload, folder)


def _makers(codes: np.ndarray, folder: Path, num_shards: int) -> dict[str, Callable[[], CodeIndex]]:
    def build_shards() -> CodeIndex:
        borders = np.linspace(0, len(codes), num_shards + 1).astype(int).tolist()
        for number, (start, stop) in enumerate(itertools.pairwise(borders)):
            target = folder / f"shard{number}"
            invert_codes(codes[start:stop], range(start, stop), folder=target)
        return open_sharded(_shards(folder), num_codes=len(codes))

    return {
        "exact": lambda: HammingIndex(codes),
        "disk": lambda: invert_codes(codes, folder=folder / "lists"),
        "memory": lambda: open_inverted(folder / "lists", in_memory=True),
        "shards": build_shards,
    }


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard*"))


def _measure_latency(
    indexes: Mapping[str, CodeIndex], queries: np.ndarray, folder: Path
) -> Measurements:
    seconds: dict[str, list[float]] = {kind: [] for kind in indexes}
    for index in indexes.values():
        index.search(queries[:1], COUNT)
    for row in range(len(queries)):  # all kinds in turn, so that other work hits all
        for kind, index in indexes.items():
            seconds[kind].append(_time(index, queries[row : row + 1]))
    seconds["cold"] = _time_cold(folder, queries)
    found: Measurements = {}
    for name, share in (("p50", 50), ("p99", 99)):
        values = {kind: 1e3 * float(np.percentile(times, share)) for kind, times in seconds.items()}
        found |= _compare(values, name)
    return found


def _time(index: CodeIndex, queries: np.ndarray) -> float:
    began = time.perf_counter()
    index.search(queries, COUNT)
    return time.perf_counter() - began


def _time_cold(folder: Path, queries: np.ndarray) -> list[float]:
    """Times queries, each of which finds nothing of the lists in memory."""
    copied = Path(shutil.copytree(folder / "lists", folder / "cold"))  # the other one is mapped
    seconds = []
    for row in range(min(len(queries), 50)):
        with (copied / "lists.bin").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        index = open_inverted(copied)
        seconds.append(_time(index, queries[row : row + 1]))
        del index
    return seconds


def _measure_batches(indexes: Mapping[str, CodeIndex], queries: np.ndarray) -> Measurements:
    exact, rows = indexes["exact"].search(queries, COUNT)
    rates, recalls, overlaps = {}, {}, {}
    for kind, index in indexes.items():
        rates[kind] = len(queries) / _time(index, queries)
        recalls[kind] = recall_of(index, queries, exact)
        overlaps[kind] = _overlap(index.search(queries, COUNT)[1], rows)
    return _compare(rates, "batch") | _compare(recalls, "recall") | _compare(overlaps, "overlap")


def _overlap(found: np.ndarray, expected: np.ndarray) -> float:
    """Gives the share of the expected ids that were found."""
    shares = [np.isin(one, other).mean() for one, other in zip(expected, found, strict=True)]
    return float(np.mean(shares))


def _measure_memory(workload: Workload, folder: Path) -> Measurements:
    shards = [str(path) for path in _shards(folder)]
    lists = {"exact": [], "memory": [str(folder / "lists")], "disk": [str(folder / "lists")]}
    lists |= {"shards": shards, "build": [str(folder / "built")]}
    told = {kind: _run_apart(folder, kind, some) for kind, some in lists.items()}
    values = {
        kind: 1e6 * one["megabytes"] / workload.num_codes
        for kind, one in told.items()
        if kind != "build"
    }
    peaks = told["build"]["peak_megabytes"], told["exact"]["peak_megabytes"]
    stored = sum(path.stat().st_size for path in (folder / "lists").iterdir())
    return {
        **_compare(values, "memory"),
        "large_build_memory": _figure(*peaks),
        "large_disk_bytes": _figure(stored / workload.num_codes, workload.num_bits / 8),
    }


def _run_apart(folder: Path, kind: str, lists: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "evaluation.large_search_memory", "--kind", kind]
    command += ["--codes", str(folder / "codes.npy"), "--queries", str(folder / "queries.npy")]
    for one in lists:
        command += ["--lists", one]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"Measuring memory failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- By the number of lists that are searched ---


def _measure_random(workload: Workload) -> Measurements:
    codes = draw_codes(workload.num_codes, workload, clustered=False, seed=1)
    queries = draw_codes(workload.num_queries, workload, clustered=False, seed=2)
    exact, inverted = HammingIndex(codes), invert_codes(codes)
    return _measure_probes(inverted, exact, queries, workload, "large_random")


def _measure_probes(
    index: CodeIndex, exact: CodeIndex, queries: np.ndarray, workload: Workload, name: str
) -> Measurements:
    """Gives recall and milliseconds of a query by the number of lists."""
    if not isinstance(index, InvertedHammingIndex):
        raise TypeError(f"There must be lists to search. Received: {index.about}")
    singles = queries[: workload.num_singles]
    distances, _ = exact.search(queries, COUNT)
    baseline = _median(exact, singles)
    found: Measurements = {}
    for probes in (some for some in workload.probes if some <= index.num_lists):
        index.num_probes = probes
        found[f"{name}_probes_{probes}"] = _figure(recall_of(index, queries, distances), 1.0)
        found[f"{name}_probes_{probes}_p50"] = _figure(_median(index, singles), baseline)
    return found


def _median(index: CodeIndex, queries: np.ndarray) -> float:
    """Gives the milliseconds of a single query."""
    times = [_time(index, queries[row : row + 1]) for row in range(len(queries))]
    return 1e3 * float(np.median(times))


def _compare(values: Mapping[str, float], name: str) -> Measurements:
    """Gives a figure of each kind beside that of the exact index."""
    return {f"large_{kind}_{name}": _figure(one, values["exact"]) for kind, one in values.items()}


def _figure(value: float, baseline: float) -> dict[str, float]:
    ratio = value / baseline if baseline else float("nan")  # of few codes, memory is nothing
    return {"value": value, "baseline": baseline, "ratio": ratio}
