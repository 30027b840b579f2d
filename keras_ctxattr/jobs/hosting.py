"""What runs in a worker, whoever started it: cores are taken, the job is loaded, units are done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_ctxattr.jobs.workers import Job, Note, Seat

_TASKS = Path("/proc/self/task")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a call: a result, or the error it ended with."""

    result: Any = None
    error: Exception | None = None

    def unwrap(self) -> Any:
        """Gives the result, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.result


class Host:
    """Does units of one job, in the process that it is made in."""

    def __init__(self) -> None:
        self._work: Callable[[Any, Note], Any] | None = None
        self._done = 0

    def start(self, job: Job, seat: Seat) -> Outcome:
        """Loads the job; the result is this process's id."""
        try:
            _keep_to(seat.cores)
            os.environ["OMP_NUM_THREADS"] = str(seat.num_threads)
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            with without_noise():
                self._work = job.load(seat)
        except Exception as error:
            return Outcome(error=_sendable(error))
        return Outcome(result=os.getpid())

    def run(self, unit: Any, note: Note | None = None) -> Outcome:
        """Does a unit of work.

        Args:
            unit: What to do.
            note: Called with what is done of it, besides `done`.
        """
        self._done = 0

        def count(done: int) -> None:
            self._done = done
            if note is not None:
                note(done)

        try:
            if self._work is None:
                raise RuntimeError("a worker must be started before it works")
            return Outcome(result=self._work(unit, count))
        except Exception as error:
            return Outcome(error=_sendable(error))

    def done(self) -> int:
        """Gives how much of the unit at hand is done; may be asked from another thread."""
        return self._done


def _keep_to(cores: tuple[int, ...] | None) -> None:
    """Keeps all threads of this process, and those they will start, to these cores."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        return
    threads = [int(task.name) for task in _TASKS.iterdir()] if _TASKS.is_dir() else [0]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it ended in the meantime
            os.sched_setaffinity(thread, cores)


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Hides what libraries print on stderr while they are loaded, unless CTXATTR_DEBUG is 1."""
    if os.environ.get("CTXATTR_DEBUG") == "1":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _sendable(error: Exception) -> Exception:
    """Gives an error that arrives as it is; one that cannot be sent becomes its text."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if str(copy) == str(error):
            return error
    except Exception:  # what an exception's own reduction may raise is anybody's guess
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")
