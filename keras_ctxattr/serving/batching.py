"""Concurrent calls gathered into batches for one function, and a bad one among them told apart."""

import collections
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """More is waiting than may wait, or nothing is taken any more; the message says which."""


class _Job(NamedTuple):
    item: Any
    weight: int
    future: Future


class Batcher(Generic[Item, Result]):
    """Runs a function on batches of what several threads hand in.

    One thread of its own takes what waits, in the order it came, and calls the function. A batch
    that fails is halved until the items that fail are alone, so that each item's error is its own
    and the others get their results. For that the function must give each item the same result in
    any company.

    Args:
        function: from a list of items to a list with the result of each.
        max_batch: items in a call, at most.
        max_weight: sum of the weights in a call, at most, where more than one item is in it.
        max_wait_ms: how long the first item of a batch waits for others, in milliseconds; 0 takes
            only what is there already.
        max_waiting: items that may wait; more are refused.

    Example:
        >>> from keras_ctxattr.serving.batching import Batcher
        >>> with Batcher(lambda words: [word.upper() for word in words]) as batcher:
        ...     (future,) = batcher.submit(["bits"])
        ...     future.result()
        'BITS'
    """

    def __init__(
        self,
        function: Callable[[list[Item]], Sequence[Result]],
        *,
        max_batch: int = 16,
        max_weight: float = float("inf"),
        max_wait_ms: float = 2.0,
        max_waiting: int = 256,
    ) -> None:
        if max_batch < 1 or max_waiting < 1 or not max_wait_ms >= 0:
            raise ValueError(
                "`max_batch` and `max_waiting` must be at least 1, `max_wait_ms` at least 0. "
                f"Received: {max_batch}, {max_waiting}, {max_wait_ms}"
            )
        self._function = function
        self._max_batch, self._max_weight = max_batch, max_weight
        self._max_wait, self._max_waiting = max_wait_ms / 1000, max_waiting
        self._waiting: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def submit(
        self, items: Sequence[Item], weights: Sequence[int] | None = None
    ) -> list["Future[Result]"]:
        """Hands in items, all of them or none.

        Args:
            items: what the function takes.
            weights: of each, e.g. its pixels; 0 if not given.

        Returns:
            A future for each item, with its result or its own error.

        Raises:
            BusyError: if they do not fit behind what waits, or the batcher is closed.
        """
        jobs = [
            _Job(item, weight, Future())
            for item, weight in zip(items, weights or [0] * len(items), strict=True)
        ]
        with self._changed:
            if self._is_closed:
                raise BusyError("the server is stopping")
            # A request of more items than may wait is taken when nothing else waits.
            if self._waiting and len(self._waiting) + len(jobs) > self._max_waiting:
                raise BusyError(f"{len(self._waiting)} images are waiting")
            self._waiting.extend(jobs)
            self._changed.notify()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Finishes what waits, and takes nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> "Batcher[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while jobs := self._take():
            self._run([job for job in jobs if job.future.set_running_or_notify_cancel()])
            del jobs  # or the last images would be kept until the next come

    def _take(self) -> list[_Job]:
        """Waits for a batch; gives none when the batcher is closed and empty."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            end = time.monotonic() + self._max_wait
            while len(self._waiting) < self._max_batch and not self._is_closed:
                if not self._changed.wait(end - time.monotonic()):
                    break
            return self._pop()

    def _pop(self) -> list[_Job]:
        jobs: list[_Job] = []
        weight = 0
        while self._waiting and len(jobs) < self._max_batch:
            weight += self._waiting[0].weight
            if jobs and weight > self._max_weight:
                break
            jobs.append(self._waiting.popleft())
        return jobs

    def _run(self, jobs: list[_Job]) -> None:
        """Runs the function and hands out what it gives; halves a batch that fails."""
        if not jobs:
            return
        try:
            results = self._function([job.item for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
        else:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)
            return
        middle = len(jobs) // 2
        self._run(jobs[:middle])
        self._run(jobs[middle:])
