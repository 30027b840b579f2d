"""`ctxattr check`: what is in a collection, and what of it can be used."""

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, scan_with_progress

if TYPE_CHECKING:
    from keras_ctxattr.data.manifest import Manifest

MAX_LISTED = 20  # skipped files shown on the screen unless all are asked for
TIMED_IMAGES = 48  # images decoded to estimate how long one pass takes


@app.command()
def check(
    photos: Photos,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    list_skipped: Annotated[
        bool, typer.Option("--list-skipped", help="List every skipped file with its reason.")
    ] = False,
) -> None:
    """Look through photographs: formats, sizes, what cannot be used and why, time and disk."""
    load_tensorflow()
    manifest = scan_with_progress(photos).mark_too_small()
    report = {**manifest.summary(), **_estimate(manifest)}
    skipped = [
        (str(key), str(reason))
        for key, reason in zip(manifest.keys, manifest.skips, strict=True)
        if reason and (list_skipped or reason != "not an image")
    ]
    if as_json:
        listed = [{"key": _printable(key), "reason": _printable(text)} for key, text in skipped]
        print(json.dumps({**report, "skipped": listed}, indent=2))
    else:
        _print_report(report, skipped, list_skipped)


def _estimate(manifest: "Manifest") -> dict[str, object]:
    """Times the decoding of some usable images and estimates one pass over all of them."""
    import numpy as np

    from keras_ctxattr.data.images import load_images

    rows = manifest.usable()
    if not len(rows):
        return {"pass_seconds": 0.0}
    chosen = np.unique(np.linspace(0, len(rows) - 1, TIMED_IMAGES).astype(int))
    sample = rows.select(chosen)
    repeated = load_images(sample, num_parallel_calls=os.cpu_count()).repeat(2)
    start = time.monotonic()
    for number, _ in enumerate(repeated, start=1):
        if number == len(sample):  # the first round waits for the graph and the disk
            start = time.monotonic()
    seconds = time.monotonic() - start
    areas = rows.heights.astype(np.int64) * rows.widths
    share = areas[chosen].sum() / areas.sum()
    return {"pass_seconds": round(float(seconds / share), 2)}


def _print_report(
    report: dict[str, object], skipped: list[tuple[str, str]], list_all: bool
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title="Photographs", show_header=False)
    for name, value in _describe(report):
        table.add_row(name, escape(value))
    console.print(table)
    if not skipped:
        return
    shown = skipped if list_all else skipped[:MAX_LISTED]
    listing = Table("file", "why it is skipped", title="Skipped")
    for key, reason in shown:
        listing.add_row(escape(_printable(key)), escape(_printable(reason)))
    console.print(listing)
    if len(shown) < len(skipped):
        console.print(f"... and {len(skipped) - len(shown)} more: --list-skipped shows all")


def _describe(report: dict[str, object]) -> list[tuple[str, str]]:
    """Gives the rows of the table: what a number is called, and the number."""

    def join(name: str) -> str:
        counts = report[name]
        return ", ".join(f"{key}: {count}" for key, count in counts.items()) or "-"  # type: ignore[attr-defined]

    return [
        ("files", str(report["num_files"])),
        ("usable images", str(report["num_usable"])),
        ("formats", join("formats")),
        ("heights, pixels", join("heights")),
        ("widths, pixels", join("widths")),
        ("EXIF orientations", join("orientations")),
        ("skipped", join("skips")),
        ("disk", f"{report['num_bytes'] / 2**20:.1f} MiB of usable images"),  # type: ignore[operator]
        ("one pass", f"about {report['pass_seconds']:.1f} s to read and decode on this machine"),
    ]


def _printable(text: str) -> str:
    """Gives a text on one line that any terminal can show: a file name may hold anything."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )
