"""The nearest codes by Hamming distance, exactly, by faiss."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_ctxattr.attributes.codes import check_codes

_QUERIES_PER_TASK = 64


class HammingIndex:
    """Finds the nearest codes to a code, all compared.

    Samples at one distance come in the order in which they were given, so that a result depends on
    neither threads nor the size of a batch.

    Args:
        codes: uint8 `[n, num_attributes / 8]`, as `keras_ctxattr.attributes.pack_bits` gives them.
        ids: int64 `[n]`, what the codes are of; None for 0, 1, 2 ...
        num_threads: queries that are looked up at a time; None for one a processor.

    Raises:
        ValueError: if the codes or ids are something else.

    Example:
        >>> codes = np.array([[0b0000], [0b0111], [0b0001]], np.uint8)
        >>> distances, ids = HammingIndex(codes).search(codes[:1], count=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(
        self, codes: np.ndarray, ids: Any = None, *, num_threads: int | None = None
    ) -> None:
        import faiss

        codes = check_codes(codes)
        self.ids = np.arange(len(codes)) if ids is None else np.asarray(ids, np.int64)
        if self.ids.shape != (len(codes),):
            raise ValueError(
                f"There must be an id for every code. Received: {len(codes)} codes and ids of "
                f"shape {list(self.ids.shape)}"
            )
        self.num_bits = 8 * codes.shape[1]
        self.num_threads = num_threads or len(os.sched_getaffinity(0))
        self._index = faiss.IndexBinaryFlat(self.num_bits)
        # Counts distances: many times faster for large counts. (Missing in the types of faiss.)
        self._index.use_heap = False  # type: ignore[attr-defined]
        self._index.add(np.ascontiguousarray(codes))

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, codes: np.ndarray, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Gives the nearest codes to each query, nearest first.

        Args:
            codes: queries, uint8 `[queries, num_attributes / 8]`.
            count: how many of each, at least 1.

        Returns:
            (distances int32, ids int64), both `[queries, count]`. Where there are fewer codes than
            `count`, the id is -1 and the distance one more than the number of bits.

        Raises:
            ValueError: if queries are of another length than the codes, or `count` is impossible.
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
            distances[:, :found], rows = self._search(np.ascontiguousarray(queries), found)
            ids[:, :found] = self.ids[rows]
        return distances, ids

    def _search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Looks queries up in threads of our own.

        The threads of OpenMP, which faiss would start, wait for work by spinning unless the
        environment forbade it before the library was loaded: several times slower than one.
        """
        import faiss

        def look_up(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            faiss.omp_set_num_threads(1)  # of this thread alone
            return self._index.search(part, count)

        num_parts = max(self.num_threads, len(queries) // _QUERIES_PER_TASK)
        parts = np.array_split(queries, min(len(queries), num_parts))
        with ThreadPoolExecutor(self.num_threads) as pool:
            found = list(pool.map(look_up, parts))
        return np.concatenate([one for one, _ in found]), np.concatenate([two for _, two in found])
