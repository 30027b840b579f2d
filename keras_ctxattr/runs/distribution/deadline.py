"""An end to every wait for another process."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import keras

EXIT_CODE = 75  # "try again" of sysexits.h: a scheduler may start the job anew


class Deadline(AbstractContextManager["Deadline"]):
    """Ends the process, with one line, if nothing was heard of for too long.

    A wait inside TensorFlow for a worker that is gone cannot be interrupted: only the end of the
    process ends it. What is written appears whole or not at all, so that nothing is lost by it.

    Args:
        seconds: between two calls of `postpone`, or before the block ends.
        what: what was waited for, a clause that begins with a verb in the past.

    Example:
        >>> with Deadline(60, "waited a minute for nothing"):
        ...     done = 1 + 1
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._end = float("inf")
        self._over = threading.Event()

    def __enter__(self) -> Deadline:
        self.postpone()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()

    def postpone(self) -> None:
        """Begins the wait anew."""
        self._end = time.monotonic() + self.seconds

    def suspend(self) -> None:
        """Waits for nothing until `postpone` is called."""
        self._end = float("inf")

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() > self._end:
                sys.stderr.write(
                    f"This worker {self.what}: see what the others say, and give the same command "
                    "on all of them again; it goes on from the last checkpoint.\n"
                )
                sys.stderr.flush()
                os._exit(EXIT_CODE)


class Heartbeat(keras.callbacks.Callback):
    """Postpones a deadline at every step of `fit` and `evaluate`, and suspends it between them.

    Args:
        deadline: entered by who makes this; None where nobody is waited for.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        super().__init__()
        self.deadline = deadline

    def _beat(self, *_: Any, **__: Any) -> None:
        if self.deadline is not None:
            self.deadline.postpone()

    def _rest(self, *_: Any, **__: Any) -> None:
        if self.deadline is not None:
            self.deadline.suspend()

    # An evaluation within `fit` leaves the deadline as `fit` needs it.
    on_train_begin = on_train_batch_end = on_epoch_end = _beat
    on_test_begin = on_test_batch_end = on_test_end = _beat
    on_train_end = _rest
