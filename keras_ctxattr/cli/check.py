"""`ctxattr check`: what is in a collection, and what of it can be used."""

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, printable, scan_progress

if TYPE_CHECKING:
    from keras_ctxattr.data.manifest import Manifest

MAX_LISTED = 20  # skipped files shown on the screen unless all are asked for
TIMED_IMAGES = 48  # images decoded to estimate how long one pass takes
# Of the default recipe: three checkpoints (two remain while the next is written) and the model,
# each with every weight and its momentum in float32. A test compares it with a real one.
RUN_BYTES = 4 * 8 * 9_270_000


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
    from keras_ctxattr.data.grids import GridConfig
    from keras_ctxattr.data.manifest import scan_images

    start = time.monotonic()
    with scan_progress() as progress:
        manifest = scan_images(photos, progress=progress).mark_too_small()
    report: dict[str, object] = {
        **manifest.summary(),
        "scan_seconds": round(time.monotonic() - start, 2),
        "pass_seconds": _estimate_pass(manifest.usable()),
        "pass_steps": -(-len(manifest.usable()) // GridConfig().images_per_batch),
        "cache_bytes": _count_cached_bytes(manifest),
        "run_bytes": RUN_BYTES,
    }
    skipped = [
        (str(key), str(reason))
        for key, reason in zip(manifest.keys, manifest.skips, strict=True)
        if reason
    ]
    if as_json:
        listed = [{"key": printable(key), "reason": printable(text)} for key, text in skipped]
        print(json.dumps({**report, "skipped": listed}, indent=2))
    else:
        _print_report(report, skipped, list_skipped)


def _count_cached_bytes(manifest: "Manifest") -> int:
    """Adds up what was unpacked or converted into the cache for this collection."""
    from keras_ctxattr.data.manifest.cache import default_cache_dir

    cache = str(default_cache_dir()) + os.sep
    sizes = dict(zip(manifest.paths, manifest.totals, strict=True))
    return sum(int(size) for path, size in sizes.items() if path.startswith(cache))


def _estimate_pass(rows: "Manifest") -> float:
    """Times the decoding of some images and estimates the seconds of one pass over all of them."""
    import numpy as np

    from keras_ctxattr.data.images import load_images

    if not len(rows):
        return 0.0
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
    return round(float(seconds / share), 2)


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
    told = [entry for entry in skipped if list_all or entry[1] != "not an image"]
    shown = told if list_all else told[:MAX_LISTED]
    if shown:
        listing = Table("file", "why it is skipped", title="Skipped")
        for key, reason in shown:
            listing.add_row(escape(printable(key)), escape(printable(reason)))
        console.print(listing)
    if len(shown) < len(skipped):
        others = len(skipped) - len(told)
        more = [f"{len(told) - len(shown)} more"] * (len(shown) < len(told))
        more += [f"{others} that are no images"] * bool(others)
        console.print(f"... and {' and '.join(more)}: --list-skipped shows all")


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
        ("disk", f"{_mebibytes(report['num_bytes'])} of usable images"),
        ("disk, cache", f"{_mebibytes(report['cache_bytes'])} unpacked or converted"),
        ("disk, a training", f"about {_mebibytes(report['run_bytes'])} of checkpoints and model"),
        ("scan", f"{report['scan_seconds']:.1f} s, once for each run"),
        (
            "one pass",
            f"about {report['pass_seconds']:.1f} s to read and decode on this machine; "
            f"{report['pass_steps']} training steps",
        ),
    ]


def _mebibytes(count: object) -> str:
    return f"{int(count) / 2**20:.1f} MiB"  # type: ignore[call-overload]
