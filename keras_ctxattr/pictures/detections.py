"""Photographs with boxes: what was detected, what is there, and who is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from keras_ctxattr.pictures.text import INK, WHITE, put_text, text_box, text_size

Image = np.ndarray
Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Style:
    colour: Colour
    is_dashed: bool
    meaning: str


# Of colours that those who cannot tell red from green can tell apart (Okabe and Ito 2008); objects
# are dashed besides.
KINDS = {
    "detection": _Style(colour=(0, 114, 178), is_dashed=False, meaning="detected"),
    "right": _Style(colour=(0, 158, 115), is_dashed=False, meaning="right"),
    "wrong": _Style(colour=(213, 94, 0), is_dashed=False, meaning="wrong"),
    "duplicate": _Style(colour=(230, 159, 0), is_dashed=False, meaning="duplicate"),
    "ignored": _Style(colour=(130, 130, 130), is_dashed=False, meaning="not counted"),
    "object": _Style(colour=(86, 180, 233), is_dashed=True, meaning="object"),
    "missed": _Style(colour=(204, 70, 160), is_dashed=True, meaning="missed object"),
    "difficult": _Style(colour=(190, 190, 190), is_dashed=True, meaning="difficult object"),
}
"""How boxes are drawn, by what they are."""

_LINE = 2  # pixels
_DASH = 7  # pixels of a dash, and of the gap after it
_SCALE = 0.45  # of labels
_GAP = 10  # pixels between the panels of a sheet


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DrawnBoxes:
    """Boxes to be drawn on one photograph, detections and objects alike.

    Attributes:
        boxes: Float `[n, 4]`, (left, top, right, bottom) of the pixels' edges, counted from 0.
        labels: What is written at each: class and score, or nothing.
        kinds: What each is, a key of `KINDS`: of a detection "detection", or "right", "wrong",
            "duplicate", "ignored" where that is known; of an object "object", "missed",
            "difficult".

    Raises:
        ValueError: If lengths do not fit, or there is no such kind.
    """

    boxes: np.ndarray
    labels: Sequence[str]
    kinds: Sequence[str]

    def __post_init__(self) -> None:
        """Checks that the columns fit."""
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        if not len(boxes) == len(self.labels) == len(self.kinds):
            raise ValueError(
                "Every box needs a label and a kind. Received: "
                f"{len(boxes)} boxes, {len(self.labels)} labels, {len(self.kinds)} kinds"
            )
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(
                f"A box must be one of {', '.join(KINDS)}. Received: {', '.join(unknown)}"
            )
        object.__setattr__(self, "boxes", boxes)


def detection_picture(image: Image, drawn: DrawnBoxes, *, size: int = 640) -> np.ndarray:
    """Draws boxes on a photograph, later ones over earlier ones, and their labels over all.

    Args:
        image: Uint8 `[height, width, 3]` RGB.
        drawn: The boxes, in pixels of `image`.
        size: Longer side of the picture in pixels, at least 64: the photograph is scaled, lines and
            letters are not.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: If the photograph is of another shape or dtype.

    Example:
        >>> grey = np.full((60, 90, 3), 128, np.uint8)
        >>> boxes = DrawnBoxes(boxes=[[10, 10, 50, 40]], labels=["cat .93"], kinds=["right"])
        >>> detection_picture(grey, boxes, size=180).shape
        (120, 180, 3)
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or size < 64:
        raise ValueError(
            "A photograph must be uint8 [height, width, 3], and `size` at least 64. Received: "
            f"{image.dtype} {list(image.shape)}, size={size}"
        )
    scale = size / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image, (width, height), interpolation=method)
    corners = [_to_pixels(box, scale, picture) for box in drawn.boxes]
    for corner, kind in zip(corners, drawn.kinds, strict=True):
        _draw_box(picture, corner, KINDS[kind])
    taken: list[np.ndarray] = []
    for corner, label, kind in zip(corners, drawn.labels, drawn.kinds, strict=True):
        if label:
            taken.append(_draw_label(picture, corner, label, KINDS[kind], taken))
    return picture


def detections_sheet(
    images: Sequence[Image],
    drawn: Sequence[DrawnBoxes],
    *,
    captions: Sequence[str] | None = None,
    columns: int = 3,
    size: int = 420,
    title: str = "",
) -> np.ndarray:
    """Shows photographs with their boxes side by side, and below what the colours mean.

    Args:
        images: Uint8 `[height, width, 3]` RGB, at least one.
        drawn: The boxes of each.
        captions: A line or two below each.
        columns: Photographs in a row, at least 1.
        size: Longer side of each in pixels, at least 64.
        title: Of the sheet.

    Returns:
        Uint8 `[height, width, 3]`, RGB on white.

    Raises:
        ValueError: If there is no photograph, or numbers differ.
    """
    texts = list(captions) if captions is not None else [""] * len(images)
    if not images or not len(images) == len(drawn) == len(texts) or columns < 1:
        raise ValueError(
            "Each of one photograph or more needs its boxes and a caption if there are any, and "
            f"`columns` must be at least 1. Received: {len(images)} photographs, {len(drawn)} with "
            f"boxes, {len(texts)} captions, columns={columns}"
        )
    panels = [
        _panel(detection_picture(image, boxes, size=size), text, size)
        for image, boxes, text in zip(images, drawn, texts, strict=True)
    ]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = _GAP + max(map(len, rows)) * (size + _GAP)
    kinds = {kind for one in drawn for kind in one.kinds}
    parts = [*(_join_row(row, width) for row in rows), _legend(kinds, width)]
    return np.concatenate([text_box(title, width), *parts])


def _to_pixels(box: np.ndarray, scale: float, picture: np.ndarray) -> np.ndarray:
    """Gives the first and last pixels of a box in the picture, int64 (left, top, right, bottom)."""
    limits = np.tile(picture.shape[1::-1], 2) - 1
    corner = np.clip(np.round(box * scale) - [0, 0, 1, 1], 0, limits).astype(np.int64)
    return np.concatenate([corner[:2], np.maximum(corner[:2], corner[2:])])  # one pixel at least


def _draw_box(picture: np.ndarray, corner: np.ndarray, style: _Style) -> None:
    """Draws the outline of a box, inside it, with a dark line around that bright places need."""
    left, top, right, bottom = (int(value) for value in corner)
    if style.is_dashed:
        across, down = np.arange(left, right + 1), np.arange(top, bottom + 1)
        dashes = (
            across[(across - left) % (2 * _DASH) < _DASH],
            down[(down - top) % (2 * _DASH) < _DASH],
        )
    else:
        dashes = np.arange(left, right + 1), np.arange(top, bottom + 1)
    for grow, colour in ((1, INK), (0, style.colour)):
        for depth in range(-grow, _LINE + grow):
            for row in (top + depth, bottom - depth):
                _paint(picture, row, dashes[0], colour)
            for column in (left + depth, right - depth):
                _paint(picture, dashes[1], column, colour)


def _paint(
    picture: np.ndarray, rows: np.ndarray | int, columns: np.ndarray | int, colour: Colour
) -> None:
    """Colours pixels of a line, as far as they lie in the picture."""
    rows, columns = np.broadcast_arrays(rows, columns)
    height, width = picture.shape[:2]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    picture[rows[is_inside], columns[is_inside]] = colour


def _draw_label(
    picture: np.ndarray, corner: np.ndarray, label: str, style: _Style, taken: list[np.ndarray]
) -> np.ndarray:
    """Writes a label on its colour where it hides the fewest others; gives the place."""
    width, height = text_size(label, _SCALE)
    width += 6
    places = list(_label_places(corner, width, height, picture))
    hidden = [sum(_shared_area(place, other) for other in taken) for place in places]
    place = places[int(np.argmin(hidden))]  # the first of equals
    left, top, right, bottom = (int(value) for value in place)
    picture[top:bottom, left:right] = style.colour
    ink = WHITE if np.dot(style.colour, (0.299, 0.587, 0.114)) < 140 else INK
    put_text(picture[top:bottom, left:right], label, 3, 0, _SCALE, ink)
    return place


def _label_places(
    corner: np.ndarray, width: int, height: int, picture: np.ndarray
) -> Iterable[np.ndarray]:
    """Gives places for a label, the best first: above the box, in it, below it, beside it."""
    left, top, right, bottom = corner
    inner = right - width + 1
    starts = [(left, top - height), (left, top), (left, bottom + 1), (left, bottom + 1 - height)]
    starts += [(inner, top - height), (inner, top), (inner, bottom + 1)]
    starts += [(side, top + down) for down in (0, height) for side in (right + 1, left - width)]
    room = np.maximum(np.array(picture.shape[1::-1]) - [width, height], 0)
    for start in starts:
        first = np.clip(start, 0, room)
        yield np.concatenate([first, np.add(first, (width, height))])


def _shared_area(one: np.ndarray, other: np.ndarray) -> int:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return int(np.maximum(sides, 0).prod())


def _panel(picture: np.ndarray, caption: str, size: int) -> np.ndarray:
    """Puts a caption below a picture, centred in a column."""
    height, width = picture.shape[:2]
    below = text_box(caption, size)
    panel = np.full((height + len(below), size, 3), 255, np.uint8)
    left = (size - width) // 2
    panel[:height, left : left + width] = picture
    panel[height:] = below
    return panel


def _join_row(panels: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Lays panels side by side, standing on one line with their lower edges."""
    row = np.full((max(map(len, panels)) + _GAP, width, 3), 255, np.uint8)
    for column, panel in enumerate(panels):
        left = _GAP + column * (panel.shape[1] + _GAP)
        row[len(row) - _GAP - len(panel) : len(row) - _GAP, left : left + panel.shape[1]] = panel
    return row


def _legend(kinds: Iterable[str], width: int) -> np.ndarray:
    """Gives a band with the colours that occur and what they mean, in the order of `KINDS`."""
    height = text_size("")[1] + 4
    entries = [
        (style, 34 + text_size(style.meaning)[0]) for kind, style in KINDS.items() if kind in kinds
    ]
    lines: list[np.ndarray] = []
    left = width
    for style, needed in entries:
        if left + needed > width:
            lines.append(np.full((height, width, 3), 255, np.uint8))
            left = _GAP
        _draw_box(lines[-1], np.array([left, 4, left + 22, height - 6]), style)
        put_text(lines[-1], style.meaning, left + 30, 2)
        left += needed + 2 * _GAP
    return np.concatenate([np.empty((0, width, 3), np.uint8), *lines])
