"""Memory of an index of many codes: a process of its own for `evaluation.speed_large_search`.

    python -m evaluation.large_search_memory --codes CODES.npy --queries QUERIES.npy
        --kind exact|memory|disk|build|shards [--lists FOLDER ...]

Prints `{"megabytes": ..., "peak_megabytes": ..., "seconds": ...}`: what the process takes more than
before once the index is open and was searched, at the highest, and how long opening took. Memory
that a file stands for does not count. `build` writes the lists, whose folder must not be there.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from evaluation.memory import anonymous_megabytes, release_memory, watch_memory
from keras_ctxattr.search import (
    HammingIndex,
    invert_codes,
    open_inverted,
    open_sharded,
)
from keras_ctxattr.search.index import CodeIndex
from training.flags import parse_flags, run_script

KINDS = ("exact", "memory", "disk", "build", "shards")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to open.

    Attributes:
        codes: `.npy` file, uint8 `[n, bytes]`.
        queries: `.npy` file, uint8 `[queries, bytes]`.
        kind: exact, memory, disk, build or shards.
        lists: folder of inverted lists; of shards, once for each.
    """

    codes: Path
    queries: Path
    kind: str
    lists: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """Checks the kind."""
        if self.kind not in KINDS:
            raise ValueError(f"`--kind` must be one of {', '.join(KINDS)}. Received: {self.kind}")


def main(config: Config) -> dict[str, float]:
    """Opens the index, searches it, and gives what that took."""
    queries = np.load(config.queries)
    HammingIndex(queries).search(queries, 10)  # loads what is loaded once
    kept: list[CodeIndex] = []
    release_memory()
    before = anonymous_megabytes()
    seconds, peak = watch_memory(lambda: kept.append(_open(config)))
    kept[0].search(queries, 100)
    release_memory()
    return {
        "megabytes": anonymous_megabytes() - before,
        "peak_megabytes": peak,
        "seconds": seconds,
    }


def _open(config: Config) -> CodeIndex:
    codes = np.load(config.codes, mmap_mode="r")
    if config.kind == "exact":
        return HammingIndex(codes)
    if config.kind == "build":
        return invert_codes(codes, folder=config.lists[0])
    if config.kind == "shards":
        return open_sharded(config.lists, num_codes=len(codes))
    return open_inverted(config.lists[0], in_memory=config.kind == "memory")


def report(config: Config) -> None:
    """Prints the figures."""
    print(json.dumps(main(config)))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
