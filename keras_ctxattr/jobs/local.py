"""Workers that are processes of this machine.

Not `concurrent.futures.ProcessPoolExecutor`: there one process that is killed ends the work of all,
and nobody knows which unit it died of. Here each worker has a pipe of its own, so the one that is
gone is replaced while the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from keras_ctxattr.jobs.hosting import Host, Outcome, without_noise
from keras_ctxattr.jobs.workers import Job, Note, Seat, Workers

_PARENT_SECONDS = 1.0  # between two looks whether the parent is still there
_END_SECONDS = 10.0
_HINT = (
    " before it was ready (a script that starts workers must be a file, and do so under `if "
    "__name__ == '__main__':`)"
)


class WorkerLostError(Exception):
    """A worker that died, or was ended for its silence; the message says what is known of it."""


class ProcessWorker:
    """A process that has loaded a job.

    It is started anew (spawned) and not copied, since TensorFlow does not survive a fork. It ends
    with the process that started it, also where that one is killed.

    Args:
        job: What it does.
        workers: The settings.
        number: Which of the workers it is, from 0.

    Raises:
        WorkerLostError: If it dies or is too slow before it has loaded the job.
    """

    def __init__(self, job: Job, workers: Workers, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, workers.seat(number), os.getpid())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._silence = ""
        self._is_killed = False
        self._limit = workers.silent_seconds
        try:
            with _watch(self, workers.start_seconds):
                self._process.start()
                theirs.close()  # or the end of the process would not end the pipe
                self._say(job)
                self.pid: int = self._hear().unwrap()
        except WorkerLostError as error:
            self.close()
            raise WorkerLostError(f"{error}{'' if self._silence else _HINT}") from error
        except BaseException:
            self.close()
            raise

    def ask(self, unit: Any, note: Note | None) -> Any:
        """Has a unit done and gives its result.

        Raises:
            WorkerLostError: If the process died or fell silent; it cannot be used any more.
        """
        if self._is_killed:  # what it said before it died may still be in the pipe
            raise self._lost()
        try:
            with _watch(self, self._limit) as heard:
                self._say(unit)
                while not isinstance(message := self._hear(), Outcome):
                    heard()
                    if note is not None:
                        note(message)
        except BaseException:
            self.kill(self._silence)  # or its answer would be taken for that of the next unit
            raise
        return message.unwrap()

    def kill(self, reason: str = "") -> None:
        """Ends it at once; whoever waits for it is told."""
        self._silence, self._is_killed = reason, True
        with contextlib.suppress(ValueError):  # closed already
            self._process.kill()

    def close(self) -> None:
        """Ends it. Its pipe goes with this object: another thread may still listen to it."""
        self.kill(self._silence)
        if self._process.pid is not None:
            self._process.join(_END_SECONDS)

    def _say(self, unit: Any) -> None:
        try:
            self._connection.send(unit)
        except OSError as error:
            raise self._lost() from error

    def _hear(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _lost(self) -> WorkerLostError:
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        if self._silence or code is None:
            told = self._silence or "its pipe was closed"
        elif code < 0:
            told = f"killed by signal {-code} ({signal.Signals(-code).name})"
        else:
            told = f"ended with code {code}"
        return WorkerLostError(f"process {self._process.pid} {told}")


@contextlib.contextmanager
def _watch(worker: ProcessWorker, limit: float) -> Any:
    """Kills a worker that is silent for `limit` seconds; gives what to call when it was heard.

    A pipe has no deadline of its own: a process that is stopped in the midst of a message would
    keep its reader for ever.
    """
    last = [time.monotonic()]
    over = threading.Event()

    def look() -> None:
        while not over.wait(max(0.01, last[0] + limit - time.monotonic())):
            if time.monotonic() - last[0] >= limit:
                worker.kill(f"was silent for {limit:g} s")
                return

    def heard() -> None:
        last[0] = time.monotonic()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield heard
    finally:
        over.set()
        watcher.join()


def _serve(connection: Connection, seat: Seat, parent: int) -> None:
    """Is what a worker process does: loads the job, and then units until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends us
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    host = Host()
    with contextlib.suppress(EOFError, OSError):
        with without_noise():  # TensorFlow is loaded with what the job is made of
            job = connection.recv()
        connection.send(host.start(job, seat))
        while True:
            connection.send(host.run(connection.recv(), connection.send))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a job that was killed must not go on writing."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)
