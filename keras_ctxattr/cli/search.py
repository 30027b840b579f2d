"""`ctxattr search` and `explain`: what is like an image, and what its attributes are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ctxattr.cli.app import app, load_tensorflow, printable, show_progress
from keras_ctxattr.cli.index import AsJson, Index

if TYPE_CHECKING:
    from keras_ctxattr.search.explaining import AttributeExplanation
    from keras_ctxattr.search.queries import Query
    from keras_ctxattr.search.records import IndexedImage
    from keras_ctxattr.search.together import ImageIndexes, SharedMatch

Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="PNG", help="Write a picture instead of text.")
]


@app.command(context_settings={"ignore_unknown_options": False})
def search(
    folder: Index,
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY...", help="Image files, or names of images of the index."),
    ],
    count: Annotated[int, typer.Option("-k", min=1, help="Results of each query.")] = 20,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--also", metavar="INDEX", help="Search this index too, of the same module. Repeatable."
        ),
    ] = None,
    bits: Annotated[
        list[str] | None,
        typer.Option(
            "--bit", metavar="N|-N", help="Results must have attribute N; -N: must not. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
    sheet: Sheet = None,
) -> None:
    """Find the photographs of an index that are most like an image."""
    check_output(as_json, sheet)
    required = _read_bits(bits or [])
    load_tensorflow()
    from keras_ctxattr.search.images import ImageIndex
    from keras_ctxattr.search.sheets import search_sheet
    from keras_ctxattr.search.together import ImageIndexes

    folders = [folder, *(also or [])]
    indexes = ImageIndexes([ImageIndex(one) for one in folders])
    found = [indexes.find_query(given) for given in queries]
    matches = [_search(indexes, query, owner, count, required) for query, owner in found]
    named = folders if also else []  # where there are several
    if sheet is not None:
        shown = [[one.match for one in some] for some in matches]
        write_sheet(sheet, search_sheet([query for query, _ in found], shown))
    elif as_json:
        pairs = zip(queries, matches, strict=True)
        report = [{"query": printable(given), "results": _list(one, named)} for given, one in pairs]
        print(json.dumps(report, indent=2))
    else:
        for given, one in zip(queries, matches, strict=True):
            _print_matches(given, one, named)


@app.command()
def prepare(folder: Index) -> None:
    """Make search quicker in an index of more than ten million photographs.

    It needs to be done once. Photographs that are added later are found as well; when they are
    many, do it again.
    """
    load_tensorflow()
    from keras_ctxattr.search import ImageIndex
    from keras_ctxattr.search.choosing import EXACT_CODES

    index = ImageIndex(folder)
    if len(index) > EXACT_CODES:
        with show_progress("making lists of codes") as progress:
            index.prepare(progress)
    print(f"{printable(str(folder))}: {index.about}")


@app.command()
def explain(
    folder: Index,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="Image file, or name of an image of the index.")
    ],
    count: Annotated[int, typer.Option("-k", min=1, help="Attributes, strongest first.")] = 8,
    as_json: AsJson = False,
    sheet: Sheet = None,
) -> None:
    """Show the attributes that set an image apart, by photographs on both sides of each."""
    check_output(as_json, sheet)
    load_tensorflow()
    from keras_ctxattr.search import ImageIndex
    from keras_ctxattr.search import explain as explain_image
    from keras_ctxattr.search.queries import find_query
    from keras_ctxattr.search.sheets import explanation_sheet

    index = ImageIndex(folder)
    query = find_query(index, image)
    explanations = explain_image(index, query.description, count=count, leave_out=_own_id(query))
    if sheet is not None:
        write_sheet(sheet, explanation_sheet(query, explanations))
    elif as_json:
        told = list(map(_describe_attribute, explanations))
        print(json.dumps({"image": printable(image), "attributes": told}, indent=2))
    else:
        _print_attributes(image, explanations)


def check_output(as_json: bool, sheet: Path | None) -> None:
    """Refuses two outputs, and a picture that cannot be written, before the work.

    Raises:
        ValueError: If so.
    """
    if as_json and sheet is not None:
        raise ValueError("Give `--json` or `--sheet`, not both. Received: both")
    if sheet is not None and (sheet.suffix.lower() != ".png" or sheet.is_dir()):
        raise ValueError(f"`--sheet` must be a .png file to write. Received: {sheet}")


def write_sheet(path: Path, picture: Any) -> None:
    """Writes a picture and says where."""
    from keras_ctxattr.pictures import write_png

    write_png(path, picture)
    print(f"Look at   {path}")


def describe_image(image: "IndexedImage") -> dict[str, Any]:
    """Gives what is printed of an image of the index, as JSON types."""
    place = image.place
    is_member = place.length != place.total
    return {
        "name": printable(image.name),
        "path": printable(place.path),
        **({"offset": place.offset, "length": place.length} if is_member else {}),
        "height": image.height,
        "width": image.width,
    }


def _search(
    indexes: "ImageIndexes", query: "Query", owner: int, count: int, required: dict[int, bool]
) -> list["SharedMatch"]:
    vector = query.description.vector if indexes.has_vectors else None
    return indexes.search(
        query.description.code,
        vector,
        count=count,
        required=required,
        leave_out=[(owner, image) for image in _own_id(query)],
    )


def _own_id(query: "Query") -> list[int]:
    return [] if query.image is None else [query.image.image_id]


def _read_bits(given: list[str]) -> dict[int, bool]:
    """Gives the bits that are required (True) and forbidden (False)."""
    found: dict[int, bool] = {}
    for text in given:
        digits = text.removeprefix("-")
        if not digits.isdecimal() or found.get(int(digits), text == digits) != (text == digits):
            raise ValueError(
                "`--bit` must be a number, -N for an attribute that must not be there, each once. "
                f"Received: {', '.join(given)}"
            )
        found[int(digits)] = text == digits
    return found


def _list(matches: list["SharedMatch"], folders: list[Path]) -> list[dict[str, Any]]:
    return [
        {
            **describe_image(one.match.image),
            "distance": one.match.distance,
            "similarity": None if one.match.similarity is None else round(one.match.similarity, 4),
            **({"index": printable(str(folders[one.index]))} if folders else {}),
        }
        for one in matches
    ]


def _print_matches(given: str, matches: list["SharedMatch"], folders: list[Path]) -> None:
    what = "bits that differ, similarity, name" + (", index" if folders else "")
    print(f"{printable(given)}: {len(matches)} found; {what}")
    for one in matches:
        match = one.match
        similarity = "     -" if match.similarity is None else f"{match.similarity:6.3f}"
        place = f"  {printable(str(folders[one.index]))}" if folders else ""
        print(f"{match.distance:4d} {similarity}  {printable(match.image.name)}{place}")


def _describe_attribute(one: "AttributeExplanation") -> dict[str, Any]:
    return {
        "bit": one.bit,
        "is_set": one.is_set,
        "score": round(one.score, 4),
        "strength": round(one.strength, 3),
        "share": round(one.share, 4),
        "examples": [describe_image(image) for image in one.examples],
        "opposites": [describe_image(image) for image in one.opposites],
    }


def _print_attributes(given: str, explanations: list["AttributeExplanation"]) -> None:
    print(f"{printable(given)}: bits, how strong (standard deviations), share of images, examples")
    for one in explanations:
        side = "set    " if one.is_set else "not set"
        names = ", ".join(printable(image.name) for image in one.examples[:3])
        print(f"{one.bit:4d} {side} {one.strength:5.1f} {one.share:5.0%}  {names}")
