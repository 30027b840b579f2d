"""What all commands share: the application, TensorFlow without its noise, progress of a scan.

The scripts of `training` and `evaluation` share the latter two.
"""

import contextlib
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


@contextlib.contextmanager
def scan_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Gives what `scan_images` takes as `progress`: a bar on stderr, how far, how fast, how long.

    The bar goes when a scan is complete, and comes again with another one, so that what follows in
    the same block has the terminal to itself.
    """
    shown = _ScanBar()
    try:
        yield shown.update
    finally:
        shown.stop()


class _ScanBar:
    """A bar from the first file of a scan to the last, with the rate beside it."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.start = 0.0

    def update(self, done: int, total: int | None) -> None:
        if self.bar is None or self.task is None:
            self.bar, self.task = _start_bar()
            self.start = time.monotonic()
        seconds = time.monotonic() - self.start
        rate = f"{done / seconds:.0f}/s" if seconds > 1.0 else ""
        self.bar.update(self.task, completed=done, total=total, rate=rate)
        if done == total:
            self.stop()

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
        self.bar = self.task = None


def _start_bar() -> "tuple[Progress, TaskID]":
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
    return bar, bar.add_task("looking at images", total=None, rate="")


def printable(text: str) -> str:
    """Gives a text on one line that any terminal can show: a file name may hold anything."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )
