"""What all commands share: the application, TensorFlow without its noise, progress of a scan."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from keras_ctxattr.data.manifest import Manifest

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

    Some of that comes before its own log level is read. Commands that need TensorFlow call this
    first.
    """
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


def scan_with_progress(photos: list[str]) -> "Manifest":
    """Scans collections with a bar on stderr that shows how far it is and how long it will take."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from keras_ctxattr.data.manifest import scan_images

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("looking at images", total=None, rate="")
        return scan_images(photos, progress=_Rate(bar, task).update)


class _Rate:
    """Brings a bar up to date and writes the rate beside it."""

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self.bar, self.task, self.start = bar, task, 0.0

    def update(self, done: int, total: int | None) -> None:
        self.start = self.start or time.monotonic()
        seconds = time.monotonic() - self.start
        rate = f"{done / seconds:.0f}/s" if seconds > 1.0 else ""
        self.bar.update(self.task, completed=done, total=total, rate=rate)
