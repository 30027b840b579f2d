"""Surface normals in colours, and where predictions of them are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from keras_ctxattr.pictures.sheets import contact_sheet
from keras_ctxattr.pictures.text import put_text, text_size

GREY = 128
"""Of pixels that have no normal, or no error."""

LARGEST_ERROR = 60.0
"""Degrees at which the colours of errors end."""

_LEGEND = 96  # pixels of the legend's height
_GAP = 10


def normals_picture(normals: np.ndarray) -> np.ndarray:
    """Colours normals: red to the right, green upwards, blue towards the viewer.

    That is (n + 1) / 2 of the normal in axes x to the right, y up, z towards the viewer, as normal
    maps of renderers have it: a wall seen from the front is light blue, a floor green.

    Args:
        normals: Float `[height, width, 3]`, in the camera's coordinates, x to the right, y down, z
            forward; of length 1, or 0 where there is none.

    Returns:
        Uint8 `[height, width, 3]`; grey where there is none.

    Raises:
        ValueError: If they are of another shape.

    Example:
        >>> normals_picture(np.array([[[0, 0, -1.0], [0, -1.0, 0], [0, 0, 0]]])).tolist()
        [[[128, 128, 255], [128, 255, 128], [128, 128, 128]]]
    """
    if np.ndim(normals) != 3 or np.shape(normals)[2] != 3:
        raise ValueError(
            f"`normals` must be [height, width, 3]. Received: {list(np.shape(normals))}"
        )
    shown = np.asarray(normals, np.float64) * [1, -1, -1]
    picture = np.clip(np.floor((shown + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
    picture[~np.any(normals, axis=-1)] = GREY
    return picture


def errors_picture(errors: np.ndarray, *, largest: float = LARGEST_ERROR) -> np.ndarray:
    """Colours errors from dark violet, none, to yellow, `largest` and more.

    Args:
        errors: Float `[height, width]`, degrees; NaN where there is none.
        largest: Degrees at which the colours end, over 0.

    Returns:
        Uint8 `[height, width, 3]`; grey where there is no error.
    """
    steps = np.nan_to_num(errors) * (255 / largest)
    levels = np.clip(steps, 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1])
    picture[np.isnan(errors)] = GREY
    return picture


def normals_sheet(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    row_titles: Sequence[str] | None = None,
    tile_size: int = 288,
    title: str = "",
) -> np.ndarray:
    """Shows photographs, normals from depth, predicted ones and their errors side by side.

    Args:
        rows: Of each frame: photograph uint8 `[height, width, 3]`; normals and predicted normals,
            float `[height, width, 3]`, 0 where there are none; errors float `[height, width]` in
            degrees, NaN where there are none.
        row_titles: One a row.
        tile_size: Side of a tile in pixels, 160 to 512.
        title: Of the sheet.

    Returns:
        Uint8 `[height, width, 3]`, with a legend below.
    """
    tiles = [
        [photograph, normals_picture(normals), normals_picture(found), errors_picture(errors)]
        for photograph, normals, found, errors in rows
    ]
    columns = ("photograph", "normals from depth", "predicted", "angular error")
    sheet = contact_sheet(
        tiles,
        tile_size=tile_size,
        header=[(column, 1) for column in columns],
        row_titles=row_titles,
        title=title,
    )
    return np.concatenate([sheet, normals_legend(sheet.shape[1])])


def normals_legend(width: int) -> np.ndarray:
    """Explains the colours: a ball seen from the front, and a scale of errors.

    Args:
        width: In pixels, at least 480.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    legend = np.full((_LEGEND, width, 3), 255, np.uint8)
    ball = _ball(_LEGEND - 2 * _GAP)
    side = len(ball)
    legend[_GAP : _GAP + side, _GAP : _GAP + side] = ball
    texts = ("a ball's normals", "grey: none, as depth is", "missing or not flat")
    for line, text in enumerate(texts):
        put_text(legend, text, side + 2 * _GAP, _GAP + line * text_size("")[1], 0.45)
    left = width // 2
    scale = np.tile(np.linspace(0, LARGEST_ERROR, width - left - 4 * _GAP), (24, 1))
    legend[_GAP : _GAP + 24, left : left + scale.shape[1]] = errors_picture(scale)
    for degrees in (0, 15, 30, 45, 60):
        text = f"{degrees}" if degrees < LARGEST_ERROR else f"{degrees} degrees or more"
        place = left + round(degrees / LARGEST_ERROR * (scale.shape[1] - 1))
        length = text_size(text, 0.45)[0]
        start = min(max(left, place - length // 2), width - length - 2)
        put_text(legend, text, start, _GAP + 28, 0.45)
    return legend


def _ball(side: int) -> np.ndarray:
    """Gives a ball, each pixel in its normal's colour, on white."""
    places = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(places, places)
    depth = 1 - x**2 - y**2
    normals = np.stack([x, y, -np.sqrt(np.maximum(depth, 0))], axis=-1)
    picture = normals_picture(normals)
    picture[depth < 0] = 255
    return picture
