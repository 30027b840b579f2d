"""An end to every wait for another process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import keras

# What the watching process runs: "p" postpones, "s" suspends, the end of its input ends it.
_WATCHER = """
import os, select, signal, sys, time
seconds, watched, line = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
end = time.monotonic() + seconds
while True:
    left = None if end is None else max(0.0, end - time.monotonic())
    if not select.select([0], [], [], left)[0]:
        os.write(2, (line + "\\n").encode())
        os.kill(watched, signal.SIGKILL)
        break
    told = os.read(0, 4096)
    if not told:
        break
    end = None if told.endswith(b"s") else time.monotonic() + seconds
"""


class Deadline(AbstractContextManager["Deadline"]):
    """Kills this process, after one line, if nothing was heard of it for too long.

    A wait inside TensorFlow for a worker that is gone cannot be interrupted, and keeps Python's
    other threads waiting too: so it is another process that watches. What is written appears whole
    or not at all, so that nothing is lost by it.

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
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Deadline:
        line = (
            f"This worker {self.what}: see what the others say, and give the same command on all "
            "of them again; it goes on from the last checkpoint."
        )
        words = [sys.executable, "-S", "-c", _WATCHER, str(self.seconds), str(os.getpid()), line]
        self._watcher = subprocess.Popen(
            words,
            bufsize=0,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for who is watched
        )
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            watcher.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                watcher.wait(timeout=10)

    def postpone(self) -> None:
        """Begins the wait anew."""
        self._tell(b"p")

    def suspend(self) -> None:
        """Waits for nothing until `postpone` is called."""
        self._tell(b"s")

    def _tell(self, word: bytes) -> None:
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.write(word)


class Heartbeat(keras.callbacks.Callback):
    """Postpones a deadline at every step of `fit` and `evaluate`.

    It goes on when they end, for what other callbacks then do with the other workers: whoever calls
    them calls `rest` afterwards.

    Args:
        deadline: entered by who makes this; None where nobody is waited for.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        super().__init__()
        self.deadline = deadline

    def _beat(self, *_: Any, **__: Any) -> None:
        if self.deadline is not None:
            self.deadline.postpone()

    def rest(self) -> None:
        """Waits for nobody until the next step."""
        if self.deadline is not None:
            self.deadline.suspend()

    on_train_begin = on_train_batch_end = on_epoch_end = on_train_end = _beat
    on_test_begin = on_test_batch_end = on_test_end = _beat
