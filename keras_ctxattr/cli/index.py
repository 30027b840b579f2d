"""`ctxattr index`, `add`, `remove` and `info`: an index of photographs, and what it holds."""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, printable, show_progress
from keras_ctxattr.cli.engines import Address, Engine, NumWorkers

if TYPE_CHECKING:
    from keras_ctxattr.search import Changes

MAX_LISTED = 5  # skipped files named on the screen

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder that `ctxattr index` made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def index(
    photos: Photos,
    module: Annotated[
        Path,
        typer.Option("--module", help="Module with attributes, or the folder of `ctxattr learn`."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="INDEX", help="Folder to make, or bring up to date.")
    ],
    no_vectors: Annotated[
        bool, typer.Option("--no-vectors", help="Keep codes only; results are ranked by them.")
    ] = False,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read files whose size and time are unchanged, too.")
    ] = False,
    engine: Engine = "local",
    num_workers: NumWorkers = 1,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make an index of photographs, or bring one up to date with them.

    Only new and changed files are described; the same command again goes on where it stopped.
    """
    load_tensorflow()
    from keras_ctxattr.export import locate_module
    from keras_ctxattr.jobs import Workers
    from keras_ctxattr.search import index_photographs

    workers = Workers(engine=engine, num_workers=num_workers, address=address)
    is_here = (engine, num_workers) == ("local", 1)
    start = time.monotonic()
    # Ray prints what became of an actor on stdout, which is for the result.
    with show_progress("describing images") as progress, contextlib.redirect_stdout(sys.stderr):
        changes = index_photographs(
            photos,
            out,
            locate_module(module),
            keep_vectors=not no_vectors,
            reread=reread,
            workers=None if is_here else workers,
            progress=progress,
        )
    _tell_changes(out, changes, time.monotonic() - start, as_json)


@app.command()
def add(folder: Index, photos: Photos, as_json: AsJson = False) -> None:
    """Add photographs to an index; nothing is removed from it."""
    load_tensorflow()
    from keras_ctxattr.search import add_photographs

    start = time.monotonic()
    with show_progress("describing images") as progress:
        changes = add_photographs(folder, photos, progress=progress)
    _tell_changes(folder, changes, time.monotonic() - start, as_json)


@app.command()
def remove(
    folder: Index,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAMES...", help="Names as the index has them, folders, patterns with * and ?."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Remove images from an index; their files stay where they are."""
    load_tensorflow()
    from keras_ctxattr.search import remove_photographs

    removed = remove_photographs(folder, names)
    if as_json:
        print(json.dumps({"index": str(folder), "removed": list(map(printable, removed))}))
    else:
        print(f"{folder}: {len(removed):,} images removed; their files are where they were")


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(metavar="INDEX|MODULE", help="An index, or a module.")],
    as_json: AsJson = False,
) -> None:
    """Say what an index or a module holds: images, sources, sizes, what was skipped and why."""
    load_tensorflow()
    from keras_ctxattr.export import locate_module, read_module
    from keras_ctxattr.search.database import DATABASE
    from keras_ctxattr.search.summary import summarize_index

    if (folder / DATABASE).is_file():
        report = summarize_index(folder)
        for file in report["skipped"]:
            file.update({name: printable(text) for name, text in file.items()})
        for source in report["sources"]:
            source.update(place=printable(source["place"]), label=printable(source["label"]))
    else:
        place = locate_module(folder)
        report = {"module_folder": str(place), "module": read_module(place)}
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_info(report)


def _tell_changes(folder: Path, changes: "Changes", seconds: float, as_json: bool) -> None:
    """Names the first files that were skipped, and says in one line what was done."""
    import dataclasses

    from keras_ctxattr.search.store import IndexStore

    skipped = [
        {"name": printable(file.name), "reason": printable(file.reason)}
        for file in IndexStore(folder).skipped()
    ]
    counts = dataclasses.asdict(changes)
    if as_json:
        report = {"index": str(folder), **counts, "seconds": round(seconds, 2)}
        print(json.dumps({**report, "skipped_files": skipped}, indent=2))
        return
    _list_skipped(skipped, folder)
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    print(f"{folder}: {told}; {seconds:.1f} s")


def _list_skipped(skipped: list[dict[str, str]], folder: Path) -> None:
    for file in skipped[:MAX_LISTED]:
        print(f"skipped {file['name']}: {file['reason']}")
    if len(skipped) > MAX_LISTED:
        more = len(skipped) - MAX_LISTED
        print(f"skipped {more:,} more: ctxattr info {folder} --json lists them")


def _print_info(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(show_header=False)
    for name, value in _describe_index(report) + _describe_module(report["module"]):
        table.add_row(name, escape(value))
    console.print(table)
    _list_skipped(report.get("skipped", []), Path(report.get("index", "")))


def _describe_index(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Gives the rows of the table that are of an index; none for a module."""
    if "index" not in report:
        return [("module", report["module_folder"])]
    parts = (f"{name} {count / 2**20:.1f}" for name, count in report["bytes"].items())
    rows = [
        ("index", report["index"]),
        ("images", f"{report['num_images']:,}, of {report['num_distinct']:,} different bytes"),
    ]
    rows += [
        ("from", f"{source['num_images']:,} as {source['label']}/ of {source['place']}")
        for source in report["sources"]
    ]
    kept = "kept" if report["keeps_vectors"] else "not kept: results are ranked by codes"
    return [
        *rows,
        ("formats", ", ".join(f"{name}: {n:,}" for name, n in report["formats"].items()) or "-"),
        ("vectors", f"{report['num_features']} numbers an image, {kept}"),
        ("disk, MiB", f"{sum(report['bytes'].values()) / 2**20:.1f}: {', '.join(parts)}"),
        ("skipped", f"{len(report['skipped']):,} files"),
    ]


def _describe_module(module: dict[str, Any]) -> list[tuple[str, str]]:
    """Gives the rows of the table that are of a module."""
    attributes = module.get("attributes")
    codes = (
        "none" if attributes is None else f"{attributes['num_attributes']}, {attributes['unit']}"
    )
    versions = (f"{name} {version}" for name, version in module["versions"].items())
    rows = [
        ("network", f"{module['backbone']}, {module['num_features']} features"),
        ("patch", f"{module['patch_size']} pixels, the smallest image"),
        ("attributes", codes),
        ("colours", module["processing"]["colour"]),
        ("written with", ", ".join(versions)),
    ]
    for name in ("metrics", "trained_on"):
        told = json.dumps(module.get(name) or {})
        rows.append((name.replace("_", " "), told if len(told) < 200 else told[:197] + "..."))
    return rows
