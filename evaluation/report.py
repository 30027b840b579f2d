"""What every evaluation leaves behind: results.json, pictures, one table."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.runs import write_json
from keras_ctxattr.runs.identity import versions
from training.flags import format_flags

_SECONDS_BETWEEN_LINES = 30
Item = TypeVar("Item")


def check_folder(out: Path) -> Path:
    """Checks that results can be written, so that this fails before the work and not after it.

    What is not there yet is made and removed again: an evaluation that fails leaves nothing behind.

    Raises:
        ValueError: if it cannot be written.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable")
    except OSError as error:
        raise ValueError(
            f"`--out` must be a folder that you may write to. Received: {out} ({error.strerror})"
        ) from error
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()
    return out


def collect(images: Iterable[str]) -> Manifest:
    """Scans sources of images and gives the usable ones."""
    return scan_images(list(images)).usable()


def describe_images(manifest: Manifest, what: str) -> dict[str, Any]:
    """Gives what `results.json` says about the images."""
    return {"images": what, "num_images": len(manifest), "sources": list(manifest.sources)}


def write_results(
    out: Path,
    values: Mapping[str, Any],
    *,
    script: str,
    config: Any,
    protocol: str,
    images: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes `results.json`: the values, and what they depend on.

    Args:
        out: folder.
        values: numbers (fractions, not per cent) and lists of them.
        script: name of the module, such as "evaluation.aberration".
        config: the script's config, with a `seed`.
        protocol: what exactly was measured, in words.
        images: as `describe_images` gives it.

    Returns:
        What was written.
    """
    results = {
        **values,
        "protocol": protocol,
        "data": dict(images),
        "seed": config.seed,
        "command": f"python -m {script} {format_flags(config)}".rstrip(),
        "versions": versions(),
    }
    write_json(out / "results.json", results)
    return results


def print_table(title: str, rows: Mapping[str, Any], columns: tuple[str, ...] = ("", "")) -> None:
    """Prints one table; a row's value may be a list, one for each further column."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for name, cells in rows.items():
        cells = cells if isinstance(cells, list | tuple) else [cells]
        table.add_row(name, *(_text(cell) for cell in cells))
    Console().print(table)


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes items on and shows rate and time left, on the error stream.

    A terminal gets a bar, a file a line now and then.

    Args:
        items: what to go through.
        total: how many there are.
        what: their name in the plural.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _log_lines(items, total, what)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what + " {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(task, completed=done, rate=_rate(done, began))


def _log_lines(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    began = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES:
            shown = now
            left = (now - began) / done * (total - done)
            line = f"{done} of {total} {what} {_rate(done, began)}, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


def _rate(done: int, began: float) -> str:
    return f"({done / max(time.monotonic() - began, 1e-9):.1f}/s)"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
