"""Contact sheets: images side by side."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.pictures.text import text_box
from keras_ctxattr.runs.writing import write_atomically

Image = np.ndarray
_GROUP_GAP = 14  # pixels between groups of columns, besides the padding
_ROW_TITLE_WIDTH = 110


def contact_sheet(
    rows: Sequence[Sequence[Image | None]],
    *,
    tile_size: int = 96,
    padding: int = 4,
    header: Sequence[tuple[str, int]] | None = None,
    row_titles: Sequence[str] | None = None,
    title: str = "",
) -> np.ndarray:
    """Puts images on a grid of equal tiles.

    Args:
        rows: Images, uint8 `[height, width, 3]` RGB of any size, by row; shown whole (letterboxed).
            Rows may be of different lengths; None leaves a place empty.
        tile_size: Side of a tile in pixels, 16 to 512.
        padding: Pixels between tiles, 0 or more.
        header: Titles of groups of columns and how many columns each spans; the groups are set
            apart. They must span all columns.
        row_titles: One title a row, at the left.
        title: Of the whole sheet.

    Returns:
        Uint8 `[height, width, 3]`, RGB on white.

    Raises:
        ValueError: Something of another shape, dtype or number.

    Example:
        >>> red = np.full((30, 60, 3), (255, 0, 0), np.uint8)
        >>> contact_sheet([[red, red], [red]], tile_size=32, padding=2).shape
        (70, 70, 3)
    """
    _check_sheet(rows, tile_size, header, row_titles)
    num_columns = max(len(row) for row in rows)
    groups = list(header) if header is not None else [("", num_columns)]
    lefts = _column_lefts([span for _, span in groups], tile_size, padding)
    indent = _ROW_TITLE_WIDTH if row_titles is not None else 0
    width = indent + lefts[-1] + tile_size + padding
    sheet = np.full((len(rows) * (tile_size + padding) + padding, width, 3), 255, np.uint8)
    for row, images in enumerate(rows):
        top = padding + row * (tile_size + padding)
        for left, image in zip(lefts, images, strict=False):
            if image is not None:
                _paste(sheet, letterbox(image, tile_size), indent + left, top)
        if row_titles is not None:
            box = text_box(row_titles[row], indent - 8)[:tile_size]
            _paste(sheet, box, 4, top + (tile_size - len(box)) // 2)
    parts = [_header(groups, lefts, tile_size, indent, width), sheet]
    return np.concatenate(([text_box(title, width)] if title else []) + parts)


def neighbours_sheet(
    queries: Sequence[Image | None],
    neighbours: Mapping[str, Sequence[Sequence[Image]]],
    *,
    tile_size: int = 96,
    title: str = "",
) -> np.ndarray:
    """Shows queries beside what each method finds nearest to them.

    Args:
        queries: Images, uint8 `[height, width, 3]`; None where a row goes on with the last one's.
        neighbours: For each method by name, one sequence of images a query, best first.
        tile_size: Side of a tile in pixels.
        title: Of the sheet.

    Returns:
        Uint8 `[height, width, 3]`: a row a query, a group of columns a method.

    Raises:
        ValueError: A method has not one sequence a query.
    """
    for name, found in neighbours.items():
        if len(found) != len(queries):
            raise ValueError(
                f"Each method needs neighbours for all {len(queries)} queries. Received: {name!r} "
                f"with {len(found)}"
            )
    spans = {name: max(map(len, found), default=0) for name, found in neighbours.items()}
    rows: list[list[Image | None]] = [[query] for query in queries]
    for name, found in neighbours.items():
        for row, images in zip(rows, found, strict=True):
            row += [*images, *[None] * (spans[name] - len(images))]
    header = [("query", 1), *((name, span) for name, span in spans.items() if span)]
    return contact_sheet(rows, tile_size=tile_size, header=header, title=title)


def patch_positions_picture(
    image: Image,
    patches: Sequence[Image],
    true_positions: np.ndarray,
    predicted_positions: np.ndarray,
    *,
    height: int = 480,
    titles: tuple[str, str] = ("where the patches are", "where the network puts them"),
) -> np.ndarray:
    """Paints an image's patches at their predicted positions, beside the image with the true ones.

    The border of a patch has the same colour on both sides, by its true position: hue from left to
    right, brightness from top to bottom.

    Args:
        image: Uint8 `[height, width, 3]`.
        patches: Square images cut out of it, in its pixels, uint8 `[side, side, 3]`.
        true_positions: Float `[patches, 2]`, (x, y) of each centre as fractions of the
            image's size.
        predicted_positions: The same, as predicted; those outside are drawn at the edge.
        height: Of the picture in pixels, without its titles.
        titles: Of the two sides.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: Not one true and one predicted position a patch.

    Reference:
        Doersch, Gupta, Efros 2015, figure 5.
    """
    for name, positions in (("true", true_positions), ("predicted", predicted_positions)):
        if np.shape(positions) != (len(patches), 2):
            raise ValueError(
                f"`{name}_positions` must be [{len(patches)}, 2], a position a patch. "
                f"Received: {list(np.shape(positions))}"
            )
    scale = height / image.shape[0]
    width = max(1, round(image.shape[1] * scale))
    left = _resize(image, width, height)
    right = np.full_like(left, 225)
    for patch, true, predicted in zip(patches, true_positions, predicted_positions, strict=True):
        colour = _position_colour(true)
        side = max(6, round(patch.shape[0] * scale))
        tile = _framed(_resize(patch, side, side), colour)
        _paste_centred(right, tile, predicted)
        _draw_frame(left, side, true, colour)
    boxes = [text_box(text, width) for text in titles]
    picture = np.full((max(map(len, boxes)) + height, 2 * width + 10, 3), 255, np.uint8)
    for box, panel, start in zip(boxes, (left, right), (0, width + 10), strict=True):
        _paste(picture, box, start, len(picture) - height - len(box))
        _paste(picture, panel, start, len(picture) - height)
    return picture


def show_patches(patches: np.ndarray, *, columns: int = 12, tile_size: int = 96) -> np.ndarray:
    """Shows what a network sees: normalised patches, 0 as middle grey.

    Args:
        patches: Float32 `[patches, side, side, 3]`, roughly -150 to 150.
        columns: Patches in a row, at least 1.
        tile_size: Side of a tile in pixels.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    values = np.nan_to_num(np.asarray(patches, np.float32))
    shown = np.clip(np.rint(128 + values), 0, 255).astype(np.uint8)
    rows = [list(shown[start : start + columns]) for start in range(0, len(shown), columns)]
    return contact_sheet(rows, tile_size=tile_size, padding=2)


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes an image as PNG, whole or not at all.

    Args:
        path: The file; missing folders are made.
        image: Uint8 `[height, width, 3]` RGB, or `[height, width]`.

    Raises:
        DiskFullError: No space left.
    """
    ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, encoded = cv2.imencode(".png", ordered)
    with write_atomically(path, num_bytes=encoded.size) as partial:
        partial.write_bytes(encoded.tobytes())


def letterbox(image: Image, size: int) -> np.ndarray:
    """The whole image inside a light grey square, uint8 `[size, size, 3]`."""
    scale = size / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    square = np.full((size, size, 3), 235, np.uint8)
    _paste(square, _resize(image, width, height), (size - width) // 2, (size - height) // 2)
    return square


def _check_sheet(
    rows: Sequence[Sequence[Image | None]],
    tile_size: int,
    header: Sequence[tuple[str, int]] | None,
    row_titles: Sequence[str] | None,
) -> None:
    num_columns = max((len(row) for row in rows), default=0)
    if not num_columns:
        raise ValueError("A contact sheet needs at least one image. Received: none")
    if not 16 <= tile_size <= 512:
        raise ValueError(f"`tile_size` must be 16 to 512 pixels. Received: {tile_size}")
    for image in itertools.chain.from_iterable(rows):
        if image is not None and (image.dtype != np.uint8 or image.shape[2:] != (3,)):
            raise ValueError(
                "Images must be uint8 [height, width, 3]. Received: "
                f"{image.dtype} {list(image.shape)}"
            )
    if header is not None and sum(span for _, span in header) != num_columns:
        raise ValueError(f"`header` must span all {num_columns} columns. Received: {header}")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"`row_titles` must be {len(rows)} titles. Received: {len(row_titles)}")


def _column_lefts(spans: Sequence[int], tile_size: int, padding: int) -> list[int]:
    lefts, left = [], padding
    for span in spans:
        for _ in range(span):
            lefts.append(left)
            left += tile_size + padding
        left += _GROUP_GAP
    return lefts


def _header(
    groups: Sequence[tuple[str, int]], lefts: list[int], tile_size: int, indent: int, width: int
) -> np.ndarray:
    boxes, first = [], 0
    for text, span in groups:
        if span:
            group_width = lefts[first + span - 1] + tile_size - lefts[first]
            boxes.append((indent + lefts[first], text_box(text, group_width)))
        first += span
    height = max(len(box) for _, box in boxes)
    band = np.full((height, width, 3), 255, np.uint8)
    for left, box in boxes:
        _paste(band, box, left, height - len(box))
    return band


def _resize(image: Image, width: int, height: int) -> np.ndarray:
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _paste(picture: np.ndarray, tile: np.ndarray, left: int, top: int) -> None:
    picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile


def _corner(picture: np.ndarray, side: int, position: np.ndarray) -> tuple[int, int]:
    """Left and top of a square centred at a relative position, moved inside the picture."""
    height, width = picture.shape[:2]
    left, top = (
        round(float(p) * n - side / 2) for p, n in zip(position, (width, height), strict=True)
    )
    return min(max(left, 0), width - side), min(max(top, 0), height - side)


def _paste_centred(picture: np.ndarray, tile: np.ndarray, position: np.ndarray) -> None:
    _paste(picture, tile, *_corner(picture, tile.shape[0], position))


def _draw_frame(
    picture: np.ndarray, side: int, position: np.ndarray, colour: tuple[int, int, int]
) -> None:
    left, top = _corner(picture, side, position)
    cv2.rectangle(picture, (left, top), (left + side - 1, top + side - 1), colour, 2)


def _framed(tile: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    framed = tile.copy()
    cv2.rectangle(framed, (0, 0), (tile.shape[1] - 1, tile.shape[0] - 1), colour, 2)
    return framed


def _position_colour(position: np.ndarray) -> tuple[int, int, int]:
    hue, depth = 0.8 * float(np.clip(position[0], 0, 1)), float(np.clip(position[1], 0, 1))
    red, green, blue = colorsys.hsv_to_rgb(hue, 1.0, 1.0 - 0.55 * depth)
    return round(255 * red), round(255 * green), round(255 * blue)
