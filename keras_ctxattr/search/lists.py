"""Inverted lists of codes: centres that are learnt, the nearest one of every code, and the lists.

A *list* holds the codes that are nearest to one centre, and their rows. In a file, as in memory,
list follows list: first the codes of one, then its rows as int64; both in the order of the rows.
`faiss.OnDiskInvertedLists` maps such a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.search.threads import one_thread, run_tasks

POINTS_PER_LIST = 40
"""Codes that a centre is learnt from, on average."""

ROW_BYTES = 8

_ITERATIONS = 10
_TASK_CODES = 1 << 14


def choose_num_lists(num_codes: int) -> int:
    """Gives how many lists so many codes have: the power of two nearest to their square root.

    So about as many centres are compared with a query as there are codes in a list.
    """
    return 1 << round(float(np.log2(max(1, num_codes))) / 2)


def sample_rows(num_codes: int, size: int, seed: int) -> np.ndarray:
    """Draws rows, int64, ascending, none twice; all of them where there are no more."""
    if size >= num_codes:
        return np.arange(num_codes)
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(num_codes, size, replace=False, shuffle=False))


def learn_centres(sample: np.ndarray, num_lists: int, seed: int, num_threads: int) -> np.ndarray:
    """Learns centres of codes: k-means of their bits as numbers, whose means are rounded.

    Args:
        sample: Uint8 `[samples, num_attributes / 8]`, at least one.
        num_lists: How many, at least 1.
        seed: Of the first centres.
        num_threads: Threads of OpenMP.

    Returns:
        Uint8 `[centres, num_attributes / 8]`, ascending; equal ones are one, so that there may be
        fewer than `num_lists`.
    """
    if num_lists >= len(sample):
        return np.unique(sample, axis=0)

    def train() -> np.ndarray:
        import faiss

        faiss.omp_set_num_threads(num_threads)  # of this thread alone
        quantizer = faiss.IndexBinaryFlat(8 * sample.shape[1])
        index = faiss.IndexBinaryIVF(quantizer, quantizer.d, num_lists)
        index.cp.niter, index.cp.seed = _ITERATIONS, seed
        index.cp.min_points_per_centroid = 1  # else it prints a warning
        index.train(np.ascontiguousarray(sample))
        return faiss.vector_to_array(quantizer.xb).reshape(num_lists, -1)  # type: ignore[attr-defined]

    with ThreadPoolExecutor(1) as pool:
        return np.unique(pool.submit(train).result(), axis=0)


def make_quantizer(centres: np.ndarray) -> Any:
    """Gives a faiss index of centres: the nearest first; of equally near ones, by number."""
    import faiss

    quantizer = faiss.IndexBinaryFlat(8 * centres.shape[1])
    quantizer.use_heap = False  # type: ignore[attr-defined]
    quantizer.add(np.ascontiguousarray(centres))
    return quantizer


def assign_codes(codes: np.ndarray, quantizer: Any, num_threads: int) -> np.ndarray:
    """Gives the number of the nearest centre of each code, int32 `[codes]`."""

    def assign(part: np.ndarray) -> np.ndarray:
        with one_thread():
            return quantizer.search(part, 1)[1][:, 0].astype(np.int32)

    parts = np.array_split(codes, -(-len(codes) // _TASK_CODES))
    return np.concatenate(run_tasks([(assign, part) for part in parts], num_threads))


# --- The lists themselves ---


def lists_in_memory(sizes: np.ndarray, code_size: int) -> Any:
    """Gives lists of these sizes (int64 `[lists]`) that are to be filled."""
    import faiss

    lists = faiss.ArrayInvertedLists(len(sizes), code_size)
    for number, size in enumerate(sizes.tolist()):
        lists.resize(number, size)
    return lists


def create_lists_file(path: Path, sizes: np.ndarray, code_size: int) -> Any:
    """Gives lists that are to be filled, mapped from a new file.

    The whole file is allocated first: a disk that is full is an `OSError` here, while a page of a
    map that cannot be written ends the process.
    """
    with path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, file_size(sizes, code_size))
    return map_lists(path, sizes, code_size, read_only=False)


def map_lists(path: Path, sizes: np.ndarray, code_size: int, *, read_only: bool = True) -> Any:
    """Gives the lists of a file, whose size must be right, memory-mapped."""
    import faiss

    lists: Any = faiss.OnDiskInvertedLists(len(sizes), code_size, str(path))
    lists.read_only = read_only
    lists.prefetch_nthread = 0  # else 32 threads read what a search is about to read
    sizes = np.ascontiguousarray(sizes, np.uint64)
    lists.set_all_lists_sizes(faiss.swig_ptr(sizes))
    lists.totsize = file_size(sizes, code_size)
    lists.do_mmap()
    return lists


def file_size(sizes: np.ndarray, code_size: int) -> int:
    """Gives the bytes of a file of lists."""
    return int(sizes.sum()) * (code_size + ROW_BYTES)


def fill_lists(
    lists: Any, num_lists: int, parts: Iterable[tuple[int, np.ndarray, np.ndarray]]
) -> None:
    """Writes codes and their rows into lists that have room for them.

    Args:
        lists: Of faiss.
        num_lists: How many.
        parts: (first row, codes uint8 `[n, bytes]`, numbers of their lists int32 `[n]`), by row.
    """
    import faiss

    filled = np.zeros(num_lists, np.int64)
    for start, codes, numbers in parts:
        order = np.argsort(numbers, kind="stable")
        ordered, rows = codes[order], start + order
        present, firsts, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        for number, first, count in zip(present, firsts, counts, strict=True):
            lists.update_entries(
                int(number),
                int(filled[number]),
                int(count),
                faiss.swig_ptr(rows[first:]),
                faiss.swig_ptr(ordered[first:]),
            )
        filled[present] += counts


def copy_lists(source: Any, target: Any, num_lists: int) -> None:
    """Copies all lists, as they are, into others that have room for them."""
    for number in range(num_lists):
        size = source.list_size(number)
        if size:
            target.update_entries(number, 0, size, source.get_ids(number), source.get_codes(number))
