"""Several workers as one: a unit goes to a free one, and to another where that one is lost."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from keras_ctxattr.jobs.local import ProcessWorker, WorkerLostError
from keras_ctxattr.jobs.workers import Job, Note, Workers

_LOOK_SECONDS = 1.0  # between two looks whether the pool was closed


class JobError(ValueError):
    """Work that cannot be done, or was stopped; the message is one line."""


class Worker(Protocol):
    """What a pool needs of `ProcessWorker` and `RayWorker`."""

    pid: int

    def ask(self, unit: Any, note: Note | None) -> Any:
        """Has a unit done and gives its result."""
        ...

    def kill(self, reason: str = "") -> None:
        """Ends it at once."""
        ...

    def close(self) -> None:
        """Ends it, and waits until it has."""
        ...


@contextlib.contextmanager
def open_pool(job: Job, workers: Workers) -> Iterator[Pool]:
    """Gives a pool of workers of the engine that is asked for; at the end all are gone.

    Args:
        job: What they do.
        workers: How many, and where.

    Raises:
        MissingPackageError: If Ray is asked for and not installed.
        ConnectionError: If there is no Ray where it should be.
    """
    with contextlib.ExitStack() as stack:
        kind: Callable[[Job, Workers, int], Worker] = ProcessWorker
        if workers.engine == "ray":
            from keras_ctxattr.jobs.rays import RayWorker, ray_session

            stack.enter_context(ray_session(workers))
            kind = RayWorker
        pool = Pool(lambda number: kind(job, workers, number), workers)
        stack.callback(pool.close)
        yield pool


class Pool:
    """Workers that start when they are first needed, and are replaced when they are lost.

    Args:
        open_worker: From a number to a worker that has loaded the job.
        workers: How many, and how often a unit is tried.

    Attributes:
        num_lost: Workers that were lost so far.
    """

    def __init__(self, open_worker: Callable[[int], Worker], workers: Workers) -> None:
        self._open = open_worker
        self._tries = workers.tries
        self._workers: list[Worker | None] = [None] * workers.num_workers
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(workers.num_workers):
            self._free.put(number)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.num_lost = 0

    @property
    def num_workers(self) -> int:
        """How many units are done at a time."""
        return len(self._workers)

    def pids(self) -> list[int]:
        """Gives the process ids of the workers that have started."""
        return [worker.pid for worker in self._workers if worker is not None]

    def start(self) -> None:
        """Starts all workers, and waits until they have loaded the job."""
        with ThreadPoolExecutor(self.num_workers) as threads:
            list(threads.map(self._start, range(self.num_workers)))

    def call(self, unit: Any, name: str, note: Note | None = None) -> Any:
        """Has a unit done by the first worker that is free; may be called by many threads.

        Args:
            unit: What to do; it can be pickled.
            name: What errors call it.
            note: Called with what is done of it; after a loss it begins anew.

        Returns:
            What the job's function gave. An error it raised is raised here.

        Raises:
            JobError: If the unit has lost as many workers as it may, or the pool was closed.
        """
        number = self._take()
        try:
            return self._try(number, unit, name, note)
        finally:
            self._free.put(number)

    def close(self) -> None:
        """Ends all workers; calls that wait for them fail."""
        self._closed.set()
        for worker in list(self._workers):
            if worker is not None:
                worker.close()

    def _take(self) -> int:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                return self._free.get(timeout=_LOOK_SECONDS)
        raise JobError(
            "Work must be asked for while its workers are there. Received: a closed pool"
        )

    def _try(self, number: int, unit: Any, name: str, note: Note | None) -> Any:
        reason = ""
        for _ in range(self._tries):
            try:
                return self._worker(number).ask(unit, note)
            except WorkerLostError as error:
                reason = str(error)
                self._lose(number)
            if self._closed.is_set():
                raise JobError(f"The work was stopped. Received: {name} unfinished")
        raise JobError(
            f"A piece of work must not end its worker; look at its memory, leave out what ends it, "
            f"or give the same command again. Received: {name}, which lost {self._tries} workers, "
            f"the last one: {reason}"
        )

    def _worker(self, number: int) -> Worker:
        worker = self._workers[number]
        if worker is None:
            worker = self._workers[number] = self._open(number)
            if self._closed.is_set():  # closed while it started: `close` did not see it
                worker.close()
        return worker

    def _start(self, number: int) -> None:
        with contextlib.suppress(WorkerLostError):  # the first unit tries again, and counts
            self._worker(number)

    def _lose(self, number: int) -> None:
        worker, self._workers[number] = self._workers[number], None
        if worker is not None:
            worker.close()
        with self._lock:
            self.num_lost += 1
