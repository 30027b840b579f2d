"""How much of what is nearest an index of codes finds, beside comparing all codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ctxattr.search.arrays import code_parts
from keras_ctxattr.search.index import CodeIndex, Found, HammingIndex, merge_found
from keras_ctxattr.search.inverted import MAX_SHARE, InvertedHammingIndex
from keras_ctxattr.search.lists import sample_rows

COUNT = 100
"""Nearest codes that are looked for."""

_QUERIES = 100
_PERFECT = 0.9995


def search_exactly(
    codes: Any, queries: np.ndarray, count: int, *, num_threads: int | None = None
) -> Found:
    """Does what `HammingIndex(codes).search` does, with a part of the codes in memory at a time."""
    found: list[Found] = []
    for start, part in code_parts(codes):
        rows = np.arange(start, start + len(part))
        index = HammingIndex(part, rows, num_threads=num_threads)
        found = [merge_found([*found, index.search(queries, min(count, len(part)))], count)]
    return found[0]


def recall_of(index: CodeIndex, queries: np.ndarray, exact: np.ndarray) -> float:
    """Gives the share of the nearest codes that an index finds, 0 to 1.

    What is as near as the last of the nearest counts as found, since ties are many.

    Args:
        index: What is measured.
        queries: Uint8 `[queries, num_attributes / 8]`.
        exact: Distances of the nearest codes, int32 `[queries, count]`, ascending.
    """
    distances, _ = index.search(queries, exact.shape[1])
    return float((distances <= exact[:, -1:]).mean())


def measure_recall(index: InvertedHammingIndex, codes: Any, seed: int) -> dict[int, float]:
    """Measures the recall of the 100 nearest of 100 of its codes, by number of searched lists.

    Args:
        index: The index; how many of its lists are searched changes.
        codes: What it holds, uint8 `[n, num_attributes / 8]`.
        seed: Of the queries.

    Returns:
        Recall of 1, 2, 4 ... lists, up to an eighth of all, or until all is found.
    """
    queries = np.ascontiguousarray(codes[sample_rows(len(codes), _QUERIES, seed)])
    count = min(COUNT, len(codes))
    exact, _ = search_exactly(codes, queries, count, num_threads=index.num_threads)
    found: dict[int, float] = {}
    probes = 1
    while (
        probes <= max(1, index.num_lists // MAX_SHARE) and max(found.values(), default=0) < _PERFECT
    ):
        index.num_probes = probes
        found[probes] = recall_of(index, queries, exact)
        probes *= 2
    return found
