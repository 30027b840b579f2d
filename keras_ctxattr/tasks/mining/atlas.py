"""What mining found, to look at and to read on: a page, a picture and a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.images import load_images
from keras_ctxattr.pictures import ClusterCard, cluster_sheet, write_gallery, write_png
from keras_ctxattr.pictures.constellations import constellation_picture
from keras_ctxattr.pictures.galleries import Words
from keras_ctxattr.runs import write_json
from keras_ctxattr.tasks.mining.objects import constellation_patches, drop_duplicates
from keras_ctxattr.tasks.mining.run import Mined

PAGE, SHEET, TABLE = "index.html", "objects.png", "objects.json"

_NUM_COLUMNS = 4
_SIDE = 176  # pixels of a photograph
_SHEET_ROWS = 20


def write_atlas(
    mined: Mined,
    folder: str | Path,
    title: str,
    *,
    num_objects: int = 100,
    num_shown: int = 11,
    min_verified: int = 3,
) -> list[dict[str, Any]]:
    """Writes the objects that were discovered, each once, the most often verified first.

    Args:
        mined: As `mine_photographs` gives it.
        folder: Gets `index.html`, a card an object with its patches drawn on the photographs, its
            own first; `objects.png`, the first of them in one picture; and `objects.json`.
        title: Of the page.
        num_objects: Objects shown, at most.
        num_shown: Verified matches shown of each.
        min_verified: Verified matches that an object must have.

    Returns:
        What `objects.json` holds of each: `rank`; `place`, its place in the ranking before equal
        objects were dropped; `verified`, how many of `depth` photographs have the layout; and
        `photographs`, its own first: `key` and `boxes`, those of the four patches.
    """
    kept = drop_duplicates(
        mined.features, mined.found, limit=num_objects, min_verified=min_verified
    )
    objects = _describe(mined, kept)
    cards = _cards(mined, objects, num_shown)
    summary = {
        "objects": {
            "photographs": len(mined.features.manifest),
            "constellations": len(mined.found.images),
            "verified, mean": float(mined.found.counts.mean()),
            "verified, largest": int(mined.found.counts.max()),
        }
    }
    depth = mined.found.verified.shape[1]
    words = Words(
        item="object",
        members="photographs",
        score=f"verified of {depth}",
        order="the most often verified",
    )
    out = Path(folder)
    write_gallery(
        out,
        title,
        cards,
        summary,
        num_columns=_NUM_COLUMNS,
        max_images=num_shown + 1,
        words=words,
        max_tile=_SIDE,
    )
    (out / SHEET).unlink(missing_ok=True)  # of a call before
    if cards:
        sheet = cluster_sheet(
            cards,
            title=title,
            num_columns=9,
            max_rows=_SHEET_ROWS,
            tile_size=128,
            item="object",
        )
        write_png(out / SHEET, sheet)
    write_json(out / TABLE, {"depth": depth, "objects": objects})
    return objects


def _describe(mined: Mined, kept: np.ndarray) -> list[dict[str, Any]]:
    places = {int(number): place for place, number in enumerate(mined.found.ranked(), start=1)}
    objects = []
    for rank, number in enumerate(kept.tolist(), start=1):
        images, boxes = constellation_patches(mined.features, mined.found, number)
        photographs = [
            {"row": image, "key": str(mined.features.manifest.keys[image]), "boxes": one.tolist()}
            for image, one in zip(images.tolist(), boxes, strict=True)
        ]
        objects.append(
            {
                "rank": rank,
                "place": places[number],
                "verified": int(mined.found.counts[number]),
                "photographs": photographs,
            }
        )
    return objects


def _cards(mined: Mined, objects: list[dict[str, Any]], num_shown: int) -> list[ClusterCard]:
    shown = [one["photographs"][: num_shown + 1] for one in objects]
    wanted: dict[int, list[tuple[int, int]]] = {}
    for number, photographs in enumerate(shown):
        for place, photograph in enumerate(photographs):
            wanted.setdefault(photograph["row"], []).append((number, place))
    drawn: list[list[Any]] = [[None] * len(photographs) for photographs in shown]
    rows = sorted(wanted)
    loaded = load_images(mined.features.manifest.select(np.array(rows, np.int64))) if rows else []
    for row, one in zip(rows, loaded, strict=True):
        for number, place in wanted[row]:
            boxes = np.array(shown[number][place]["boxes"])
            drawn[number][place] = constellation_picture(one["image"].numpy(), boxes, size=_SIDE)
    return [
        ClusterCard(
            cluster_id=one["rank"],
            images=pictures,
            num_members=len(one["photographs"]),
            score=one["verified"],
            facts={"place": one["place"]},
        )
        for one, pictures in zip(objects, drawn, strict=True)
    ]
