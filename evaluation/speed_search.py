"""Search among a million codes, beside calling faiss directly.

- `search`: queries per second of `HammingIndex`, a thousand neighbours each, over those of faiss's
  `IndexBinaryFlat` as it is called by hand, with `use_heap` off, in the faster of one thread and
  all. Results must be the same.
- `search_all_threads`: the same over faiss with all threads of OpenMP, which may spin.
"""

import dataclasses
import os
import time
from collections.abc import Callable

import numpy as np

from evaluation.speed_context import Measurements
from keras_ctxattr.search import HammingIndex


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is searched.

    Attributes:
        num_codes: in the index.
        num_queries: in a call.
        count: neighbours of each.
        num_bits: of a code.
        rounds: alternations of the sides.
        seed: of the codes.
    """

    num_codes: int = 1_000_000
    num_queries: int = 1_000
    count: int = 1_000
    num_bits: int = 64
    rounds: int = 5
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    import faiss

    generator = np.random.default_rng(workload.seed)
    num_bytes = workload.num_bits // 8
    codes = generator.integers(0, 256, (workload.num_codes, num_bytes), np.uint8)
    queries = generator.integers(0, 256, (workload.num_queries, num_bytes), np.uint8)
    ours = HammingIndex(codes)
    direct = faiss.IndexBinaryFlat(workload.num_bits)
    direct.use_heap = False  # type: ignore[attr-defined]
    direct.add(codes)

    def directly(num_threads: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        def search() -> tuple[np.ndarray, np.ndarray]:
            faiss.omp_set_num_threads(num_threads)
            return direct.search(queries, workload.count)

        return search

    sides = {
        "ours": lambda: ours.search(queries, workload.count),
        "one": directly(1),
        "all": directly(len(os.sched_getaffinity(0))),
    }
    results = {name: side() for name, side in sides.items()}  # warm up, and compare
    for name in ("one", "all"):
        for found, expected in zip(results["ours"], results[name], strict=True):
            if not np.array_equal(found, expected):
                raise RuntimeError(f"The index must find what faiss finds ({name} threads).")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(workload.rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - began)
    rates = {
        name: workload.num_queries / float(np.median(times)) for name, times in seconds.items()
    }
    best = max(rates["one"], rates["all"])
    return {
        "search": {"value": rates["ours"], "baseline": best, "ratio": rates["ours"] / best},
        "search_all_threads": {
            "value": rates["ours"],
            "baseline": rates["all"],
            "ratio": rates["ours"] / rates["all"],
        },
    }
