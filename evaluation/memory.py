"""How much memory a call takes, as the operating system counts it."""

import contextlib
import ctypes
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def watch_memory(run: Callable[[], Any]) -> tuple[float, float]:
    """Gives (seconds, megabytes at the highest above those before) of a call.

    Memory that a file stands for, as that of mapped arrays, does not count: the system takes it
    back where it is short. NaN where only Linux tells.
    """
    release_memory()
    before = highest = anonymous_megabytes()
    done = threading.Event()

    def sample() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, anonymous_megabytes())

    watcher = threading.Thread(target=sample)
    watcher.start()
    start = time.perf_counter()
    try:
        run()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return seconds, max(highest, anonymous_megabytes()) - before


def release_memory() -> None:
    """Gives back what was freed, so that a call does not find it and seem to need nothing."""
    gc.collect()
    if _STATUS.is_file():
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def anonymous_megabytes() -> float:
    """Gives the process's memory that no file stands for; NaN where only Linux tells."""
    if not _STATUS.is_file():
        return float("nan")
    words = _STATUS.read_text().split()
    return int(words[words.index("RssAnon:") + 1]) / 1e3
