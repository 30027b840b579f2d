"""The nearest codes by Hamming distance among those of the nearest inverted lists, by faiss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ctxattr.search.arrays import as_ids, ids_of, range_of
from keras_ctxattr.search.index import CodeIndex, Found, Place
from keras_ctxattr.search.lists import make_quantizer
from keras_ctxattr.search.threads import one_thread

RECALL = 0.95
"""Share of the 100 nearest codes that an index is to find, unless told otherwise."""

MAX_SHARE = 8
"""At most one list in so many is searched, unless told otherwise."""


class InvertedHammingIndex(CodeIndex):
    """Finds the nearest codes to a code among those of the lists whose centres are nearest to it.

    It is for collections that are too large to compare a query with every code: `invert_codes`
    makes one, `open_inverted` opens one from a folder. Distances are right, but not everything that
    is near is found: `about` tells how much, measured on codes of the collection. The more lists
    are searched, the more is found; with all of them, everything.

    Samples at one distance come in the order in which they were given. Where not all of those at
    the last distance fit, some of them are found: the same every time, whatever the threads or the
    size of a batch.

    Args:
        centres: Uint8 `[lists, num_attributes / 8]`.
        lists: Lists of faiss with codes and their rows.
        ids: What the rows are, int64 `[n]` or a `range`; None for the rows themselves.
        num_codes: Codes in all lists.
        recall: Recall of the 100 nearest by number of lists that are searched, as measured.
        num_probes: Lists that are searched; None for as few (a power of two) as find 95 % of the
            100 nearest by `recall`, but at most an eighth of all.
        num_threads: Queries that are looked up at a time; None for one a processor.

    Attributes:
        centres: Uint8 `[lists, num_attributes / 8]`.
        lists: Lists of faiss.
        ids: What the rows are.
        recall: Recall of the 100 nearest by number of lists that are searched.

    Raises:
        ValueError: If an argument is impossible.
    """

    def __init__(
        self,
        centres: np.ndarray,
        lists: Any,
        ids: Any = None,
        *,
        num_codes: int,
        recall: Mapping[int, float] | None = None,
        num_probes: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        import faiss

        super().__init__(8 * centres.shape[1], num_threads)
        self.centres, self.lists = centres, lists
        self.ids = as_ids(ids, num_codes)
        self.recall = dict(recall or {})
        self._quantizer = make_quantizer(centres)
        self._index: Any = faiss.IndexBinaryIVF(self._quantizer, self.num_bits, len(centres))
        # What else faiss has for this finds nothing (use_heap=False), or writes where it must not
        # (per_invlist_search), in version 1.15.
        self._index.use_heap = True
        self._index.replace_invlists(lists, False)
        self._index.ntotal = num_codes
        self.num_probes = choose_num_probes(self.recall) if num_probes is None else num_probes

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def num_lists(self) -> int:
        """Lists that the codes are in."""
        return len(self.centres)

    @property
    def num_probes(self) -> int:
        """Lists that are searched."""
        return int(self._index.nprobe)

    @num_probes.setter
    def num_probes(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"`num_probes` must be at least 1. Received: {value}")
        self._index.nprobe = min(int(value), self.num_lists)

    @property
    def about(self) -> str:
        """What the index is, and how much of the 100 nearest it is expected to find."""
        return (
            f"inverted, {len(self):,} codes of {self.num_bits} bits in {self.num_lists:,} lists, "
            f"{self.num_probes:,} of which are searched: recall@100 {self._expected()}"
        )

    def _expected(self) -> str:
        if self.num_probes == self.num_lists:
            return "1"
        known = [probes for probes in self.recall if probes <= self.num_probes]
        if not known:
            return "not measured"
        sign = "" if max(known) == self.num_probes else "at least "
        return f"{sign}{self.recall[max(known)]:.3f}, as measured on its own codes"

    def id_range(self) -> tuple[int, int]:
        """Gives the smallest and the largest id; (0, -1) of no codes."""
        return range_of(self.ids)

    def all_ids(self) -> np.ndarray:
        """Gives the ids of all codes, int64 `[n]`."""
        return np.asarray(self.ids, np.int64)

    def places(self) -> list[Place]:
        """Gives the parts of the index that may be searched at the same time: one."""
        return [Place(len(self), self._look_up)]

    def _look_up(self, queries: np.ndarray, count: int) -> Found:
        with one_thread():
            distances, rows = self._index.search(queries, count)
        if rows.max() >= len(self):
            raise ValueError(
                "The rows of inverted lists must be those of their codes; the file is damaged, "
                f"build it anew. Received: row {rows.max()} of {len(self)}"
            )
        distances[rows < 0] = self.num_bits + 1
        order = np.lexsort((rows, distances))
        distances = np.take_along_axis(distances, order, axis=1)
        return distances, ids_of(self.ids, np.take_along_axis(rows, order, axis=1))


def choose_num_probes(recall: Mapping[int, float]) -> int:
    """Gives the fewest lists that find 95 % of the 100 nearest, or the most that were tried."""
    enough = [probes for probes, share in recall.items() if share >= RECALL]
    return min(enough, default=max(recall, default=1))
