"""The nearest codes by Hamming distance, exactly, by faiss; and what all indexes of codes share."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ctxattr.search.arrays import (
    as_codes,
    as_ids,
    check_queries,
    code_parts,
    ids_of,
    range_of,
)
from keras_ctxattr.search.threads import count_threads, one_thread, run_tasks

PART_CODES = 2_500_000
"""An exact index of more codes is divided among threads, so that a single query has all of them."""

_HEAP_SHARE = 5000
_QUERIES_PER_TASK = 64
# A task may ask faiss for this much: it keeps `count` places for every distance and query.
_TASK_BYTES = 1 << 26

Found = tuple[np.ndarray, np.ndarray]


class Place(NamedTuple):
    """A part of an index of codes.

    Attributes:
        num_codes: In this part.
        look_up: Gives (distances, ids) of uint8 queries `[queries, bytes]` and a count, at most
            that of the codes, in the thread that calls it.
    """

    num_codes: int
    look_up: Callable[[np.ndarray, int], Found]


class CodeIndex(abc.ABC):
    """Finds the nearest codes to a code, in one of several ways.

    Args:
        num_bits: Of a code.
        num_threads: Queries that are looked up at a time; None for one a processor.

    Attributes:
        num_bits: Of a code.
        num_threads: Queries that are looked up at a time.
    """

    def __init__(self, num_bits: int, num_threads: int | None = None) -> None:
        self.num_bits = num_bits
        self.num_threads = count_threads(num_threads)

    @abc.abstractmethod
    def __len__(self) -> int:
        """Tells how many codes there are."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """What the index is, and how much of what it should find it is expected to find."""

    @abc.abstractmethod
    def id_range(self) -> tuple[int, int]:
        """Gives the smallest and the largest id; (0, -1) of no codes."""

    @abc.abstractmethod
    def all_ids(self) -> np.ndarray:
        """Gives the ids of all codes, int64 `[n]`."""

    @abc.abstractmethod
    def places(self) -> list[Place]:
        """Gives the parts of the index, in order, that may be searched at the same time."""

    def search(self, codes: np.ndarray, count: int = 10) -> Found:
        """Gives the nearest codes to each query, nearest first.

        Args:
            codes: Queries, uint8 `[queries, num_attributes / 8]`.
            count: How many of each, at least 1.

        Returns:
            (distances int32, ids int64), both `[queries, count]`. Where fewer codes than `count`
            were found, the id is -1 and the distance one more than the number of bits.

        Raises:
            ValueError: If queries are of another length than the codes, or `count` is impossible.
        """
        queries = check_queries(codes, self.num_bits // 8)
        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: {count}")
        distances = np.full((len(queries), count), self.num_bits + 1, np.int32)
        ids = np.full((len(queries), count), -1, np.int64)
        found = min(count, len(self))
        if found and len(queries):
            parts = self._split(np.ascontiguousarray(queries), found)
            distances[:, :found], ids[:, :found] = self._search(parts, found)
        return distances, ids

    def _search(self, parts: Sequence[np.ndarray], count: int) -> Found:
        places = [place for place in self.places() if place.num_codes]
        tasks = [
            (place.look_up, part, min(count, place.num_codes)) for part in parts for place in places
        ]
        found = run_tasks(tasks, self.num_threads)
        size = len(places)
        merged = [
            merge_found(found[start : start + size], count) for start in range(0, len(found), size)
        ]
        return tuple(np.concatenate(one) for one in zip(*merged, strict=True))  # type: ignore[return-value]

    def _split(self, queries: np.ndarray, count: int) -> list[np.ndarray]:
        most = max(1, min(_QUERIES_PER_TASK, _TASK_BYTES // (8 * count * (self.num_bits + 1))))
        num_parts = max(self.num_threads, -(-len(queries) // most))
        return np.array_split(queries, min(len(queries), num_parts))


class HammingIndex(CodeIndex):
    """Finds the nearest codes to a code, all compared.

    Samples at one distance come in the order in which they were given, so that a result depends on
    neither threads nor the size of a batch.

    Args:
        codes: Uint8 `[n, num_attributes / 8]`, as `keras_ctxattr.attributes.pack_bits` gives them;
            memory-mapped ones (`ShardedArray`) are copied to memory, a part at a time.
        ids: What the codes are of, int64 `[n]` or a `range`; None for 0, 1, 2 ...
        num_threads: Queries that are looked up at a time; None for one a processor.

    Attributes:
        ids: What the codes are of, int64 `[n]` or a `range`.

    Raises:
        ValueError: If the codes or ids are something else.

    Example:
        >>> codes = np.array([[0b0000], [0b0111], [0b0001]], np.uint8)
        >>> distances, ids = HammingIndex(codes).search(codes[:1], count=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(self, codes: Any, ids: Any = None, *, num_threads: int | None = None) -> None:
        import faiss

        codes = as_codes(codes)
        super().__init__(8 * codes.shape[1], num_threads)
        self.ids = as_ids(ids, len(codes))
        # Several, for a single query to be looked up by several threads.
        num_parts = max(1, min(self.num_threads, len(codes) // PART_CODES))
        self._starts = np.linspace(0, len(codes), num_parts + 1).astype(int)[:-1].tolist()
        self._parts: list[Any] = [faiss.IndexBinaryFlat(self.num_bits) for _ in self._starts]
        ends = [*self._starts[1:], len(codes)]
        for index, start, end in zip(self._parts, self._starts, ends, strict=True):
            for _, part in code_parts(codes, start, end):
                index.add(part)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def about(self) -> str:
        """What the index is."""
        return f"exact, {len(self):,} codes of {self.num_bits} bits, all compared: recall 1"

    def id_range(self) -> tuple[int, int]:
        """Gives the smallest and the largest id; (0, -1) of no codes."""
        return range_of(self.ids)

    def all_ids(self) -> np.ndarray:
        """Gives the ids of all codes, int64 `[n]`."""
        return np.asarray(self.ids, np.int64)

    def places(self) -> list[Place]:
        """Gives the parts of the index, in order, that may be searched at the same time."""
        return [
            Place(int(index.ntotal), functools.partial(self._look_up, index, start))
            for index, start in zip(self._parts, self._starts, strict=True)
        ]

    def _look_up(self, index: Any, start: int, queries: np.ndarray, count: int) -> Found:
        # Counting distances is several times faster for large counts, and slower for small ones.
        # (Ties are the same; where threads want different ways, either is right.)
        index.use_heap = _HEAP_SHARE * count <= index.ntotal
        with one_thread():
            distances, rows = index.search(queries, count)
        return distances, ids_of(self.ids, start + rows)


def merge_found(found: Sequence[Found], count: int) -> Found:
    """Merges what was found in several places, nearest first; at one distance, in this order.

    Args:
        found: (distances, ids), both `[queries, any number]`.
        count: How many are kept of each query.

    Returns:
        (distances, ids), both `[queries, count]`, or as many as there are.
    """
    if len(found) == 1:
        return found[0][0][:, :count], found[0][1][:, :count]
    distances, ids = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
