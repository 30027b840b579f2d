"""Blocks of SVMs divided over the devices of a process.

Which clusters share a block does not depend on the devices, and a block is solved on one of them
alone: so results are the same bit for bit, whatever the number of devices of a kind.
"""

import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.clustering.svm.descent import Solution

Solver = Callable[[np.ndarray], Solution]


def resolve_devices(devices: Sequence[str] | None) -> list[str | None]:
    """Gives the names of the logical devices to use; None stands for TensorFlow's own choice.

    Args:
        devices: names such as `"GPU:1"` or `"/device:CPU:0"`, at least one, each once; None gives
            all GPUs where there are several.

    Raises:
        ValueError: if there is no such device, or none or one twice is named.
    """
    if devices is None:
        gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
        return gpus if len(gpus) > 1 else [None]
    known = [device.name for device in tf.config.list_logical_devices()]
    named = [f"/device:{name.removeprefix('/device:')}" for name in devices]
    if isinstance(devices, str) or not named or len({*named}) < len(named) or {*named} - {*known}:
        raise ValueError(
            f"`devices` must name some of {', '.join(known)}, each once. Received: {devices!r}"
        )
    return list(named)


def place(device: str | None) -> contextlib.AbstractContextManager[Any]:
    """Gives a context in which TensorFlow works on a device; None leaves it the choice."""
    return contextlib.nullcontext() if device is None else tf.device(device)


def solve_blocks(
    blocks: Iterable[np.ndarray], solvers: Sequence[Solver]
) -> Iterator[tuple[np.ndarray, Solution]]:
    """Solves each block with the solver that is free next, each in a thread of its own.

    Args:
        blocks: int64 `[clusters]` each.
        solvers: one a device; a single one is called in this thread.

    Yields:
        Each block and its solution, in the order in which they are done.

    Raises:
        Exception: what a solver raised. Blocks that others are at are done first, no other begins.
    """
    if len(solvers) == 1:
        yield from ((columns, solvers[0](columns)) for columns in blocks)
        return
    free: queue.SimpleQueue[Solver] = queue.SimpleQueue()
    for solver in solvers:
        free.put(solver)

    def solve(columns: np.ndarray) -> tuple[np.ndarray, Solution]:
        solver = free.get_nowait()  # there are as many threads as solvers
        try:
            return columns, solver(columns)
        finally:
            free.put(solver)

    with concurrent.futures.ThreadPoolExecutor(len(solvers)) as pool:
        futures = [pool.submit(solve, columns) for columns in blocks]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class GuardedTable:
    """A table that several threads read, one at a time: mapping shards is no work for two.

    Args:
        table: float `[rows, num_features]`, sliced and indexed like an array.
        lock: shared by tables that may lie in the same files.
    """

    def __init__(self, table: Any, lock: threading.Lock) -> None:
        self._table, self._lock = table, lock
        self.shape = table.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> np.ndarray:
        with self._lock:
            return np.asarray(self._table[chosen], np.float32)
