"""Jobs that need no network: what workers do with them can be told by hand."""

import dataclasses
import os
import signal
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Square:
    """Squares numbers, and does what the words among its units say.

    A unit is a number, or `(what, folder)`: what happens the first time, and a folder to remember.
    """

    offset: int = 0

    def load(self, seat):
        return lambda unit, note: self._work(unit, note, seat)

    def _work(self, unit, note, seat):
        if isinstance(unit, int):
            note(1)
            return unit * unit + self.offset
        what, folder = unit
        marks = len(list(Path(folder).iterdir()))
        (Path(folder) / f"{marks}-{os.getpid()}").touch()
        return getattr(self, f"_{what}")(marks, note, seat)

    def _die_once(self, marks, note, seat):
        note(1)
        if not marks:
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    def _die(self, marks, note, seat):
        os.kill(os.getpid(), signal.SIGKILL)

    def _hang_once(self, marks, note, seat):
        if not marks:
            time.sleep(60)
        return "awake"

    def _stop_once(self, marks, note, seat):
        if not marks:
            os.kill(os.getpid(), signal.SIGSTOP)
        return "going on"

    def _fail(self, marks, note, seat):
        raise ValueError("This unit is refused. Received: it")

    def _fail_oddly(self, marks, note, seat):
        raise OddError(1, 2)

    def _tell_seat(self, marks, note, seat):
        return sorted(os.sched_getaffinity(0)), seat

    def _sleep(self, marks, note, seat):
        time.sleep(60)


@dataclasses.dataclass(frozen=True)
class CountThreads:
    """Tells how many threads TensorFlow uses once it has been told how many."""

    def load(self, seat):
        from keras_ctxattr.search.describing import count_threads, set_threads

        set_threads(seat.num_threads)
        return lambda unit, note: count_threads()


@dataclasses.dataclass(frozen=True)
class Refuse:
    """Cannot be loaded."""

    dies: bool = False

    def load(self, seat):
        if self.dies:
            os._exit(7)
        raise ValueError("This job is refused. Received: it")


class OddError(Exception):
    """Cannot be pickled as it is."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
