"""Threads of our own for the loops of faiss."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def count_threads(num_threads: int | None) -> int:
    """Gives how many threads to use: as many as there are processors, unless told.

    Raises:
        ValueError: If told less than 1.
    """
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"`num_threads` must be at least 1, or None. Received: {num_threads}")
    return num_threads or len(os.sched_getaffinity(0))


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
