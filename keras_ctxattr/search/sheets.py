"""Pictures of what an index finds, of the images where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_ctxattr.pictures import captioned_tile, contact_sheet, neighbours_sheet, note_tile
from keras_ctxattr.search.describing import UndecodableError
from keras_ctxattr.search.duplicates import DuplicateGroup
from keras_ctxattr.search.explaining import AttributeExplanation
from keras_ctxattr.search.images import Match
from keras_ctxattr.search.outliers import Outlier
from keras_ctxattr.search.pixels import UnavailableError, read_pixels
from keras_ctxattr.search.queries import Query
from keras_ctxattr.search.records import IndexedImage

TILE = 128  # pixels
MAX_GROUPS = 24
"""Groups of duplicates on a sheet."""

_COLUMNS = 10
_MAX_COPIES = 8


def search_sheet(queries: Sequence[Query], matches: Sequence[Sequence[Match]]) -> np.ndarray:
    """Shows queries beside what was found for each, ten to a row, best first.

    An image whose file is gone or has changed is a grey tile that says so.

    Args:
        queries: At least one.
        matches: What was found for each.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    firsts: list[np.ndarray | None] = []
    rows: list[list[np.ndarray]] = []
    for query, found in zip(queries, matches, strict=True):
        tiles = [_tile(match.image, _caption(match)) for match in found]
        parts = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
        parts = parts or [[note_tile("nothing found", TILE)]]
        rows += parts
        firsts += [_query_tile(query), *[None] * (len(parts) - 1)]
    title = "bits that differ, similarity" if _has_similarity(matches) else "bits that differ"
    return neighbours_sheet(firsts, {f"nearest ({title})": rows}, tile_size=TILE)


def explanation_sheet(query: Query, explanations: Sequence[AttributeExplanation]) -> np.ndarray:
    """Shows for each attribute of an image others on its side, and on the other side.

    Args:
        query: The image.
        explanations: Of its attributes, at least one.

    Returns:
        Uint8 `[height, width, 3]`, a row an attribute, the image itself at the top left.
    """
    num_like = max(len(one.examples) for one in explanations)
    num_unlike = max(len(one.opposites) for one in explanations)
    rows: list[list[np.ndarray | None]] = []
    for one in explanations:
        like: list[np.ndarray | None] = [_tile(image) for image in one.examples]
        like += [None] * (num_like - len(like))
        rows.append([None, *like, *(_tile(image) for image in one.opposites)])
    rows[0][0] = _query_tile(query)
    header = [("image", 1), ("its side of the bit", num_like), ("other side", num_unlike)]
    return contact_sheet(
        rows,
        tile_size=TILE,
        header=[group for group in header if group[1]],
        row_titles=[_attribute_title(one) for one in explanations],
    )


def duplicates_sheet(groups: Sequence[DuplicateGroup]) -> np.ndarray:
    """Shows groups of duplicates, a row each; at most 24 groups of 8 images.

    Args:
        groups: At least one.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    shown = groups[:MAX_GROUPS]
    title = f"{len(groups):,} groups" + (
        f", {MAX_GROUPS} shown" if len(groups) > len(shown) else ""
    )
    return contact_sheet(
        [
            [
                _tile(image, f"{image.width} x {image.height}")
                for image in group.images[:_MAX_COPIES]
            ]
            for group in shown
        ],
        tile_size=TILE,
        row_titles=[_group_title(group) for group in shown],
        title=title,
    )


def outliers_sheet(outliers: Sequence[Outlier]) -> np.ndarray:
    """Shows outliers, ten to a row, the least like any other first.

    Args:
        outliers: At least one.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    tiles = [_tile(one.image, f"{one.similarity:.2f}") for one in outliers]
    rows = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
    title = "least like their nearest 10 (mean similarity)"
    return contact_sheet(rows, tile_size=TILE, title=title)


def _query_tile(query: Query) -> np.ndarray:
    try:
        return query.pixels()
    except (UnavailableError, UndecodableError) as error:
        return note_tile(str(error), TILE)


def _tile(image: IndexedImage, caption: str = "") -> np.ndarray:
    try:
        return captioned_tile(read_pixels(image, TILE), caption, TILE)
    except UnavailableError as error:
        return note_tile(str(error), TILE)


def _caption(match: Match) -> str:
    if match.similarity is None:
        return str(match.distance)
    return f"{match.distance}, {match.similarity:.3f}"


def _has_similarity(matches: Sequence[Sequence[Match]]) -> bool:
    return any(match.similarity is not None for found in matches for match in found)


def _attribute_title(one: AttributeExplanation) -> str:
    side = "set" if one.is_set else "not set"
    return f"bit {one.bit}: {side}\n{one.share:.0%} have it\nstrength {one.strength:.1f}"


def _group_title(group: DuplicateGroup) -> str:
    kind = "equal bytes" if group.is_equal else f"near, {group.similarity:.2f}"
    return f"{len(group.images)} images\n{kind}"
