"""What all commands share: the application, TensorFlow without its noise, progress.

The scripts of `training` and `evaluation` share the latter two.
"""

import contextlib
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 30.0

app = typer.Typer(
    name="ctxattr",
    help="Visual features and binary attributes from unlabelled photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTOS...",
        help="Folders, .tar, .tar.gz or TFRecord files, single images, tfds:NAME[:SPLIT].",
    ),
]


def load_tensorflow() -> None:
    """Imports TensorFlow and finds its devices without what its C++ prints on stderr meanwhile.

    Some of that comes before its own log level is read. Whatever needs TensorFlow calls this first:
    where it is loaded already, or CTXATTR_DEBUG=1 asks for the noise, nothing happens.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules or os.environ.get("CTXATTR_DEBUG") == "1":
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        import tensorflow as tf

        # Workers of TF_CONFIG must be told of each other before; those that a script started, where
        # its imports are done again, of their number of threads.
        is_worker = multiprocessing.current_process().name != "MainProcess"
        if "TF_CONFIG" not in os.environ and not is_worker:
            tf.config.list_logical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def print_warnings_in_a_line() -> None:
    """Shows warnings meant for users without the place in our code that raised them."""
    warnings.formatwarning = _format_warning


_FORMAT_WARNING = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], *place: object, **line: object
) -> str:
    # By its name: the module of `RunWarning` costs the start of every command.
    if any(kind.__name__ == "RunWarning" for kind in category.__mro__):
        return f"warning: {message}\n"
    return _FORMAT_WARNING(message, category, *place, **line)  # type: ignore[arg-type]


def scan_progress() -> "contextlib.AbstractContextManager[Callable[[int, int | None], None]]":
    """Gives what `scan_images` takes as `progress`: a bar on stderr."""
    return show_progress("looking at images")


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Gives a function of (done, total or None) that shows both on stderr, with rate and time left.

    The bar goes when all is done, and comes again with another count, so that what follows in the
    same block has the terminal to itself. Where stderr is no terminal, a line comes every half
    minute.

    Args:
        what: What is being done: `"describing images"`.
    """
    shown = _Bar(what)
    try:
        yield shown.update
    finally:
        shown.stop()


@contextlib.contextmanager
def show_steps(what: str = "") -> Iterator[Callable[[str], Callable[[int, int | None], None]]]:
    """Gives a function from the name of a step to what `show_progress` gives of it.

    Args:
        what: What the steps are of, shown before their names.
    """
    with contextlib.ExitStack() as bars:
        prefix = f"{what}: " if what else ""
        yield lambda step: bars.enter_context(show_progress(f"{prefix}{step}"))


class _Bar:
    """A bar from the first count to the last, with the rate beside it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.start = self.told = 0.0

    def update(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self.bar is None or self.task is None:
            self.bar, self.task = _start_bar(self.what)
            self.start = self.told = now
        seconds = now - self.start
        rate = f"{_significant(done / seconds)}/s" if seconds > 1.0 else ""
        self.bar.update(self.task, completed=done, total=total, rate=rate)
        if now - self.told > _SECONDS_BETWEEN_LINES and not sys.stderr.isatty():
            self.told = now
            left = f", {seconds / done * (total - done):.0f} s left" if total and done else ""
            print(f"{self.what}: {done} of {total or '?'}, {rate}{left}", file=sys.stderr)
        if done == total:
            self.stop()

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
        self.bar = self.task = None


def _significant(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _start_bar(what: str) -> "tuple[Progress, TaskID]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.start()
    return bar, bar.add_task(what, total=None, rate="")


def printable(text: str) -> str:
    """Gives a text on one line that any terminal can show: a file name may hold anything."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )
