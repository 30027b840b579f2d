"""Pictures of binary attributes: the images on each side of a bit, and a map with bits' borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from keras_ctxattr.pictures.sheets import Image, contact_sheet, letterbox
from keras_ctxattr.pictures.text import WHITE, put_text, text_box, text_size

_BORDER_COLOURS = ((200, 40, 40), (30, 90, 200), (20, 130, 60), (150, 60, 170))
_MARGIN = 24  # pixels around a map

Border = tuple[float, float, float]
"""(a, b, c): the line a x + b y + c = 0; the attribute is set where this is above 0."""


def attribute_sheet(
    sides: Mapping[str, tuple[Sequence[Image], Sequence[Image]]],
    *,
    tile_size: int = 64,
    title: str = "",
) -> np.ndarray:
    """Shows for each attribute the images of its highest scores beside those of its lowest.

    Args:
        sides: for each attribute by name: images where it is set, the most confident first, and
            images where it is not; uint8 `[height, width, 3]`, as many of both for all attributes.
        tile_size: side of a tile in pixels.
        title: of the sheet.

    Returns:
        uint8 `[height, width, 3]`, a row an attribute.

    Raises:
        ValueError: if there is no attribute, or numbers of images differ.

    Reference:
        Huang, Loy, Tang 2016, figure 4.
    """
    counts = {(len(one), len(other)) for one, other in sides.values()}
    if len(counts) != 1:
        raise ValueError(
            "Each attribute needs as many images of each side. Received: "
            f"{sorted(counts) or 'no attribute'}"
        )
    ((num_set, num_unset),) = counts
    return contact_sheet(
        [[*one, *other] for one, other in sides.values()],
        tile_size=tile_size,
        header=[("set", num_set), ("not set", num_unset)],
        row_titles=list(sides),
        title=title,
    )


def attribute_map(
    images: Sequence[Image],
    positions: np.ndarray,
    borders: Mapping[str, Border],
    *,
    size: int = 1000,
    tile_size: int = 32,
    title: str = "",
) -> np.ndarray:
    """Shows images about where they lie in the plane, and the borders of attributes as lines.

    Images are moved to the nearest cell of a lattice; where it is taken by an earlier one they are
    left out, so the first are the most important.

    Args:
        images: uint8 `[height, width, 3]`.
        positions: float `[images, 2]`, (x, y) in any unit.
        borders: for each attribute by name its line in the same unit, at most four.
        size: side of the map in pixels.
        tile_size: side of an image in pixels.
        title: of the map.

    Returns:
        uint8 `[height, size, 3]`.

    Raises:
        ValueError: if there are not as many finite positions as images, none at all, or more than
            four borders.

    Reference:
        Huang, Loy, Tang 2016, figure 1.
    """
    places = np.asarray(positions, np.float64)
    if places.shape != (len(images), 2) or not len(images) or not np.isfinite(places).all():
        raise ValueError(
            "`positions` must be finite, [images, 2], for at least one image. Received: "
            f"{list(places.shape)} for {len(images)} images"
        )
    if len(borders) > len(_BORDER_COLOURS):
        raise ValueError(
            f"At most {len(_BORDER_COLOURS)} borders can be told apart. Received: {len(borders)}"
        )
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    scale = (size - 2 * _MARGIN - tile_size) / max(float(span.max()), 1e-12)
    origin = _MARGIN + tile_size / 2 - low * scale  # pixels of the point (0, 0)
    height = round(float(span[1]) * scale) + 2 * _MARGIN + tile_size
    picture = np.full((height, size, 3), 255, np.uint8)
    taken: set[tuple[int, int]] = set()
    for image, corner in zip(images, places * scale + origin - tile_size / 2, strict=True):
        column, row = np.round((corner - _MARGIN) / tile_size).astype(int)
        left, top = _MARGIN + column * tile_size, _MARGIN + row * tile_size
        is_inside = top + tile_size <= height and left + tile_size <= size
        if (column, row) in taken or not is_inside:
            continue
        taken.add((column, row))
        tile = letterbox(image, tile_size - 2)
        picture[top : top + tile_size - 2, left : left + tile_size - 2] = tile
    for number, (name, border) in enumerate(borders.items()):
        _draw_border(picture, border, scale, origin, name, number)
    return np.concatenate([text_box(title, size), picture]) if title else picture


def _draw_border(
    picture: np.ndarray,
    border: Border,
    scale: float,
    origin: np.ndarray,
    name: str,
    number: int,
) -> None:
    """Draws a line, and its name on the side where the attribute is set."""
    a, b, c = border
    length = max(float(np.hypot(a, b)), 1e-12)
    normal = np.array([a, b]) / length
    offset = normal @ origin - scale * c / length  # the same line in pixels: normal . p = offset
    colour, sides = _BORDER_COLOURS[number], np.array(picture.shape[1::-1])
    foot = sides / 2 + normal * (offset - normal @ (sides / 2))
    along = np.array([-normal[1], normal[0]])
    first, last = ([round(float(v)) for v in foot + sign * sides.sum() * along] for sign in (-1, 1))
    cv2.line(picture, first, last, colour, 2, cv2.LINE_AA)
    # Names of lines that cross in the middle are written apart from each other.
    box = np.array(text_size(name))
    place = foot + (0.36 - 0.12 * number) * sides.min() * along + normal * (8 + box / 2)
    left, top = np.clip(place - box / 2, 2, sides - box - 2).astype(int)
    picture[top : top + box[1], left : left + box[0]] = WHITE
    put_text(picture, name, left, top, ink=colour)
