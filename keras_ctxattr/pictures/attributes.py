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
    """Shows images where they lie in the plane, and the borders of attributes as lines.

    Images that would cover an earlier one are left out, so the first are the most important.

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
    low = places.min(axis=0)
    scale = (size - 2 * _MARGIN - tile_size) / max(float((places.max(axis=0) - low).max()), 1e-12)
    origin = _MARGIN + tile_size / 2 - low * scale  # pixels of the point (0, 0)
    picture = np.full((size, size, 3), 255, np.uint8)
    taken: list[np.ndarray] = []
    for image, centre in zip(images, places * scale + origin, strict=True):
        corner = np.round(centre - tile_size / 2).astype(int)
        if any(np.abs(corner - other).max() < tile_size for other in taken):
            continue
        taken.append(corner)
        left, top = corner
        picture[top : top + tile_size, left : left + tile_size] = letterbox(image, tile_size)
    for colour, (name, border) in zip(_BORDER_COLOURS, borders.items(), strict=False):
        _draw_border(picture, border, scale, origin, name, colour)
    return np.concatenate([text_box(title, size), picture]) if title else picture


def _draw_border(
    picture: np.ndarray,
    border: Border,
    scale: float,
    origin: np.ndarray,
    name: str,
    colour: tuple[int, int, int],
) -> None:
    """Draws a line, and its name on the side where the attribute is set."""
    a, b, c = border
    normal = np.array([a, b]) / max(float(np.hypot(a, b)), 1e-12)
    # The same line in pixels: normal . p = offset.
    offset = normal @ origin - scale * c / max(float(np.hypot(a, b)), 1e-12)
    size = picture.shape[0]
    middle = np.full(2, size / 2)
    foot = middle + normal * (offset - normal @ middle)
    along = np.array([-normal[1], normal[0]])
    ends = [tuple(int(v) for v in np.round(foot + sign * 2 * size * along)) for sign in (-1, 1)]
    cv2.line(picture, ends[0], ends[1], colour, 2, cv2.LINE_AA)
    width, height = text_size(name)
    side = foot + normal * 26 - np.array([width, height]) / 2
    left, top = (
        int(np.clip(v, 2, size - room - 2)) for v, room in zip(side, (width, height), strict=True)
    )
    picture[top : top + height, left : left + width] = WHITE
    put_text(picture, name, left, top, ink=colour)
