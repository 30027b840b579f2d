"""The nearest codes by Hamming distance, exactly, by faiss; and what all indexes of codes share."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_ctxattr.attributes.codes import check_codes

CODES_AT_A_TIME = 1 << 22
"""Codes of a collection larger than memory that are in memory at a time."""

_QUERIES_PER_TASK = 64
# A task may ask faiss for this much: it keeps `count` places for every distance and query.
_TASK_BYTES = 1 << 26

Found = tuple[np.ndarray, np.ndarray]


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
    def look_up(self, queries: np.ndarray, count: int) -> Found:
        """Does what `search` does, in this thread alone, of at most as many as there are codes."""

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
        queries = check_codes(codes)
        if 8 * queries.shape[1] != self.num_bits:
            raise ValueError(
                "Queries must have as many bytes as the codes of the index. Received: "
                f"{queries.shape[1]} and {self.num_bits // 8}"
            )
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
        found = run_tasks([(self.look_up, part, count) for part in parts], self.num_threads)
        return np.concatenate([one for one, _ in found]), np.concatenate([two for _, two in found])

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
        self._index = faiss.IndexBinaryFlat(self.num_bits)
        # Counts distances: many times faster for large counts. (Missing in the types of faiss.)
        self._index.use_heap = False  # type: ignore[attr-defined]
        for _, part in code_parts(codes):
            self._index.add(part)

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

    def look_up(self, queries: np.ndarray, count: int) -> Found:
        """Does what `search` does, in this thread alone, of at most as many as there are codes."""
        with one_thread():
            distances, rows = self._index.search(queries, count)
        return distances, ids_of(self.ids, rows)


def as_codes(codes: Any) -> Any:
    """Gives codes as they are, if they are such: an array, or a `ShardedArray` that is not read.

    Raises:
        ValueError: If they are something else.
    """
    if not hasattr(codes, "dtype") or not hasattr(codes, "shape"):
        codes = np.asarray(codes)
    if codes.dtype != np.uint8 or len(codes.shape) != 2 or codes.shape[1] == 0:
        raise ValueError(
            "Codes must be uint8 [n, num_attributes / 8], as `pack_bits` gives them. Received: "
            f"{codes.dtype} {list(codes.shape)}"
        )
    return codes


def count_threads(num_threads: int | None) -> int:
    """Gives how many threads to use: as many as there are processors, unless told.

    Raises:
        ValueError: If told less than 1.
    """
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"`num_threads` must be at least 1, or None. Received: {num_threads}")
    return num_threads or len(os.sched_getaffinity(0))


def as_ids(ids: Any, num_codes: int) -> Any:
    """Gives ids as they are, if they are such: a `range` of step 1, or whole numbers `[n]`.

    Raises:
        ValueError: If they are not one for every code.
    """
    if ids is None:
        return range(num_codes)
    is_kept = isinstance(ids, range) and ids.step == 1
    is_kept = is_kept or (getattr(ids, "dtype", None) == np.int64 and hasattr(ids, "shape"))
    ids = ids if is_kept else np.asarray(ids, np.int64)
    shape = (len(ids),) if isinstance(ids, range) else ids.shape
    if shape != (num_codes,):
        raise ValueError(
            f"There must be an id for every code. Received: {num_codes} codes and ids of "
            f"shape {list(shape)}"
        )
    return ids


def range_of(ids: Any) -> tuple[int, int]:
    """Gives the smallest and the largest of ids; (0, -1) of none."""
    if not len(ids):
        return 0, -1
    return (ids[0], ids[-1]) if isinstance(ids, range) else (int(ids.min()), int(ids.max()))


def ids_of(ids: Any, rows: np.ndarray) -> np.ndarray:
    """Gives the ids of rows, int64 like them; -1 stays.

    Args:
        ids: Int64 `[n]`, or a `range` of step 1.
        rows: Int64, -1 to n - 1.
    """
    if isinstance(ids, range):
        return np.where(rows < 0, -1, ids.start + rows)
    return np.where(rows < 0, -1, ids[np.maximum(rows, 0).ravel()].reshape(rows.shape))


def code_parts(codes: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Gives (first row, codes of the rows from there), of which only a part is in memory."""
    for start in range(0, len(codes), CODES_AT_A_TIME):
        yield start, np.ascontiguousarray(codes[start : start + CODES_AT_A_TIME])


def merge_found(found: Sequence[Found], count: int) -> Found:
    """Merges what was found in several places, nearest first; at one distance, in this order.

    Args:
        found: (distances, ids), both `[queries, any number]`.
        count: How many are kept of each query.

    Returns:
        (distances, ids), both `[queries, count]`, or as many as there are.
    """
    distances, ids = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)


def run_tasks(tasks: Sequence[tuple[Callable[..., Any], *tuple[Any, ...]]], threads: int) -> list:
    """Calls functions in threads of our own, and gives what they return.

    The threads of OpenMP, which faiss would start, wait for work by spinning unless the environment
    forbade it before the library was loaded: several times slower than one.
    """
    if len(tasks) == 1 or threads == 1:
        return [function(*arguments) for function, *arguments in tasks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task[0](*task[1:]), tasks))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets faiss compute in this thread alone, meanwhile; what was set for it comes back."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread alone
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
