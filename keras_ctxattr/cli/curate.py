"""`ctxattr duplicates`, `outliers` and `export-vectors`: all images of an index at once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ctxattr.cli.app import app, load_tensorflow, printable, show_progress
from keras_ctxattr.cli.index import AsJson, Index
from keras_ctxattr.cli.search import Sheet, check_output, describe_image, write_sheet

if TYPE_CHECKING:
    from keras_ctxattr.search.duplicates import DuplicateGroup
    from keras_ctxattr.search.outliers import Outlier

MAX_PRINTED = 20  # groups on the screen


@app.command()
def duplicates(
    folder: Index,
    similarity: Annotated[
        float | None,
        typer.Option(help="Smallest similarity of near duplicates; 2: equal bytes only. [0.5]"),
    ] = None,
    distance: Annotated[
        int | None, typer.Option(min=0, help="Most bits in which their codes differ. [any]")
    ] = None,
    features_only: Annotated[
        bool, typer.Option("--features-only", help="Do not compare the files' thumbnails.")
    ] = False,
    as_json: AsJson = False,
    sheet: Sheet = None,
) -> None:
    """Find photographs that are there twice: the same bytes, or resized or recompressed."""
    check_output(as_json, sheet)
    load_tensorflow()
    from keras_ctxattr.search import ImageIndex, find_duplicates
    from keras_ctxattr.search.sheets import duplicates_sheet

    with show_progress("comparing images") as progress:
        groups = find_duplicates(
            ImageIndex(folder),
            similarity=similarity,
            distance=distance,
            confirm=not features_only,
            progress=progress,
        )
    if as_json:
        print(json.dumps([_describe_group(group) for group in groups], indent=2))
        return
    if sheet is not None and groups:
        write_sheet(sheet, duplicates_sheet(groups))
    elif sheet is None:
        _print_groups(groups)
    spare = sum(len(group.images) - 1 for group in groups)
    print(f"{len(groups):,} groups; {spare:,} images beside the largest of each")


@app.command()
def outliers(
    folder: Index,
    count: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 20,
    as_json: AsJson = False,
    sheet: Sheet = None,
) -> None:
    """Find photographs that are least like any others."""
    check_output(as_json, sheet)
    load_tensorflow()
    from keras_ctxattr.search import ImageIndex, find_outliers
    from keras_ctxattr.search.sheets import outliers_sheet

    with show_progress("comparing images") as progress:
        found = find_outliers(ImageIndex(folder), count=count, progress=progress)
    if sheet is not None:
        write_sheet(sheet, outliers_sheet(found))
    elif as_json:
        print(json.dumps([_describe_outlier(one) for one in found], indent=2))
    else:
        for one in found:
            name, nearest = printable(one.image.name), printable(one.nearest.name)
            print(f"{one.similarity:6.3f}  {name}  (nearest: {nearest})")


@app.command("export-vectors")
def export_vectors(
    folder: Index,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder to write.")],
    file_format: Annotated[str, typer.Option("--format", help="npy, parquet or faiss.")] = "npy",
) -> None:
    """Write vectors, codes and names of an index for other tools, all in one order."""
    load_tensorflow()
    from keras_ctxattr.search import ImageIndex
    from keras_ctxattr.search import export_vectors as write

    index = ImageIndex(folder)
    names = write(index, out, file_format)
    kept = "" if index.has_vectors else "; no vectors, which this index does not keep"
    print(f"{out}: {', '.join(names)}: {len(index):,} images in one order{kept}")


def _describe_group(group: "DuplicateGroup") -> dict[str, Any]:
    images = [{**describe_image(one), "bytes": one.place.length} for one in group.images]
    return {
        "kind": "equal" if group.is_equal else "near",
        "similarity": round(group.similarity, 4),
        "images": images,
    }


def _describe_outlier(one: "Outlier") -> dict[str, Any]:
    return {
        **describe_image(one.image),
        "similarity": round(one.similarity, 4),
        "nearest": printable(one.nearest.name),
    }


def _print_groups(groups: list["DuplicateGroup"]) -> None:
    for group in groups[:MAX_PRINTED]:
        print("equal bytes" if group.is_equal else f"near, {group.similarity:.2f}")
        for image in group.images:
            size = f"{image.width} x {image.height}, {image.place.length:,} bytes"
            print(f"    {printable(image.name)}  ({size})")
    if len(groups) > MAX_PRINTED:
        print(f"... and {len(groups) - MAX_PRINTED:,} groups more: --json lists them")
