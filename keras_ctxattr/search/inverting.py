"""Making an inverted index of codes, in memory or in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.shards import TableFolder
from keras_ctxattr.runs import write_atomically
from keras_ctxattr.runs.writing import PARTIAL_MARK, remove
from keras_ctxattr.search.arrays import as_codes, as_ids
from keras_ctxattr.search.inverted import InvertedHammingIndex, choose_num_probes
from keras_ctxattr.search.list_folder import LISTS, Plan, open_inverted, read_about, write_about
from keras_ctxattr.search.lists import (
    POINTS_PER_LIST,
    assign_codes,
    create_lists_file,
    file_size,
    fill_lists,
    learn_centres,
    lists_in_memory,
    make_quantizer,
    sample_rows,
)
from keras_ctxattr.search.recall import measure_recall
from keras_ctxattr.search.threads import count_threads

PART_CODES = 1 << 21
"""Codes that are worked on at a time."""

Progress = Callable[[int, int | None], None]

_KIND = "numbers of lists"


def invert_codes(
    codes: Any,
    ids: Any = None,
    *,
    folder: str | Path | None = None,
    num_lists: int | None = None,
    num_probes: int | None = None,
    seed: int = 0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> InvertedHammingIndex:
    """Makes an inverted index of codes, in memory or in a folder.

    A folder is there whole or not at all, and is opened memory-mapped: only the lists that are
    searched are read. Building it needs less than 500 MB of memory, however many codes there are,
    and 4 bytes a code beside the folder until it is done. Killed at any moment, the same call goes
    on; where all is done, it opens what is there. In memory, lists take 8 bytes more than a code.

    Args:
        codes: Uint8 `[n, num_attributes / 8]`, at least one; an array, or a `ShardedArray`, of
            which a part is in memory at a time.
        ids: What the codes are of, int64 `[n]` or a `range` of step 1; None for 0, 1, 2 ...
        folder: New, or the one of this very call; None for in memory.
        num_lists: Lists; None for the power of two nearest to the square root of n.
        num_probes: Lists that are searched; None for as few as find 95 % of the 100 nearest, but at
            most an eighth of all.
        seed: Of the sample that centres are learnt from: 40 codes a list.
        num_threads: Of building and of searching; None for one a processor.
        progress: Called with (codes done, all of them).

    Raises:
        ValueError: If an argument is impossible, the folder holds something else, or another
            process is writing it.
        DiskFullError: No space left.

    Example:
        >>> codes = np.random.default_rng(0).integers(0, 256, (1000, 8), np.uint8)
        >>> index = invert_codes(codes)
        >>> distances, ids = index.search(codes[:2], count=1)
        >>> distances.tolist(), ids.tolist()
        ([[0], [0]], [[0], [1]])
    """
    codes = as_codes(codes)
    ids = as_ids(ids, len(codes))
    plan = Plan.of(codes, ids, num_lists=num_lists, seed=seed)
    build = _Build(codes, ids, plan, count_threads(num_threads), progress)
    if folder is None:
        index = build.in_memory()
        if num_probes is not None:
            index.num_probes = num_probes
        return index
    build.in_folder(Path(folder))
    return open_inverted(folder, num_probes=num_probes, num_threads=num_threads)


class _Build:
    """The steps from codes to lists: centres, the list of every code, the lists."""

    def __init__(
        self, codes: Any, ids: Any, plan: Plan, num_threads: int, progress: Progress | None
    ) -> None:
        self.codes, self.ids, self.plan = codes, ids, plan
        self.num_threads, self.progress = num_threads, progress

    # --- In memory ---

    def in_memory(self) -> InvertedHammingIndex:
        """Gives the index."""
        centres = self._learn_centres()
        quantizer = make_quantizer(centres)
        numbers = [self._assign(part, quantizer) for part in range(self._num_parts)]
        sizes = _count(numbers, len(centres))
        lists = lists_in_memory(sizes, self.codes.shape[1])
        return self._fill(lists, centres, numbers.__getitem__)

    # --- In a folder ---

    def in_folder(self, folder: Path) -> None:
        """Writes the folder, or goes on with it; what was done already lies beside it."""
        if self._is_done(folder):
            return
        work = folder.with_name(f".{folder.name}.building")
        table = TableFolder.start(
            work,
            _KIND,
            dataclasses.asdict(self.plan),
            num_rows=self.plan.num_codes,
            shard_rows=PART_CODES,
        )
        with table.lock():
            if not self._is_done(folder):  # by another process, meanwhile
                for partial in folder.parent.glob(f".{folder.stem}{PARTIAL_MARK}*"):
                    remove(partial)  # of a process that was killed
                centres = self._stored_centres(work / "centres.npy")
                self._assign_missing(table, centres)
                self._write(folder, table, centres)
            remove(work)

    def _is_done(self, folder: Path) -> bool:
        """Tells whether the index is there.

        Raises:
            ValueError: If something else is.
        """
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
        stored, wanted = read_about(folder)["plan"], dataclasses.asdict(self.plan)
        differing = [name for name in wanted if stored.get(name) != wanted[name]]
        if differing:
            raise ValueError(
                "Inverted lists must be written to a folder that is new, or their own; give "
                f"another one. Received: {folder}, made of another {', '.join(differing)}"
            )
        return True

    def _stored_centres(self, path: Path) -> np.ndarray:
        if not path.exists():
            with write_atomically(path) as partial:
                np.save(partial, self._learn_centres(), allow_pickle=False)
        return np.load(path, allow_pickle=False)

    def _assign_missing(self, table: TableFolder, centres: np.ndarray) -> None:
        quantizer = make_quantizer(centres)
        missing = set(table.missing_shards())
        for part in range(self._num_parts):
            if part in missing:
                table.write_shard(part, {"lists": self._assign(part, quantizer)})

    def _write(self, folder: Path, table: TableFolder, centres: np.ndarray) -> None:
        assigned = table.column("lists")

        def numbers(part: int) -> np.ndarray:
            return assigned[slice(*table.shard_range(part))]

        sizes = _count(map(numbers, range(self._num_parts)), len(centres))
        code_size = self.codes.shape[1]
        ids_bytes = 0 if isinstance(self.ids, range) else 8 * len(self.ids)
        num_bytes = file_size(sizes, code_size) + ids_bytes
        kept = "what was done is kept, and the same call goes on"
        with write_atomically(
            folder, num_bytes=num_bytes, reassurance=kept, replace=False
        ) as partial:
            partial.mkdir()
            lists = create_lists_file(partial / LISTS, sizes, code_size)
            index = self._fill(lists, centres, numbers)
            write_about(partial, index, sizes, self.plan)

    # --- Both ---

    @property
    def _num_parts(self) -> int:
        return -(-len(self.codes) // PART_CODES)

    def _part(self, part: int) -> np.ndarray:
        start = part * PART_CODES
        return np.ascontiguousarray(self.codes[start : start + PART_CODES])

    def _learn_centres(self) -> np.ndarray:
        size = POINTS_PER_LIST * self.plan.num_lists
        sample = self.codes[sample_rows(len(self.codes), size, self.plan.seed)]
        return learn_centres(sample, self.plan.num_lists, self.plan.seed, self.num_threads)

    def _assign(self, part: int, quantizer: Any) -> np.ndarray:
        found = assign_codes(self._part(part), quantizer, self.num_threads)
        if self.progress is not None:
            self.progress(min((part + 1) * PART_CODES, len(self.codes)), len(self.codes))
        return found

    def _fill(
        self, lists: Any, centres: np.ndarray, numbers: Callable[[int], np.ndarray]
    ) -> InvertedHammingIndex:
        """Writes codes into lists, and measures how well they are found."""
        parts = range(self._num_parts)
        fill_lists(
            lists,
            len(centres),
            ((part * PART_CODES, self._part(part), numbers(part)) for part in parts),
        )
        index = InvertedHammingIndex(
            centres,
            lists,
            self.ids,
            num_codes=len(self.codes),
            num_probes=1,
            num_threads=self.num_threads,
        )
        index.recall = measure_recall(index, self.codes, self.plan.seed + 1)
        index.num_probes = choose_num_probes(index.recall)
        return index


def _count(numbers: Iterable[np.ndarray], num_lists: int) -> np.ndarray:
    """Gives the sizes of lists, int64 `[lists]`."""
    sizes = np.zeros(num_lists, np.int64)
    for part in numbers:
        sizes += np.bincount(part, minlength=num_lists)
    return sizes
