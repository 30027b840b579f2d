"""Tiles of sheets: an image with a caption below, or words in place of an image."""

from __future__ import annotations

import cv2
import numpy as np

from keras_ctxattr.pictures.text import INK, text_box

Image = np.ndarray

_GREY = 235  # the letterbox of sheets


def captioned_tile(image: Image, caption: str, size: int) -> np.ndarray:
    """Puts a caption below an image, in a square.

    Args:
        image: Uint8 `[height, width, 3]` RGB, shown whole.
        caption: One line or two; nothing for none.
        size: Side of the square in pixels, at least 32.

    Returns:
        Uint8 `[size, size, 3]`.
    """
    below = text_box(caption, size)[: size // 2]
    room = size - len(below)
    scale = min(size / image.shape[1], room / image.shape[0])
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    shrinks = scale < 1
    small = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    tile = np.full((size, size, 3), 255, np.uint8)
    tile[:room] = _GREY
    left, top = (size - width) // 2, (room - height) // 2
    tile[top : top + height, left : left + width] = small
    tile[room:] = below
    return tile


def note_tile(note: str, size: int) -> np.ndarray:
    """Gives a square with words on grey, for an image that cannot be shown.

    Args:
        note: Why.
        size: Side of the square in pixels, at least 32.

    Returns:
        Uint8 `[size, size, 3]`.
    """
    words = text_box(note, size - 8)[: size - 8]
    tile = np.full((size, size, 3), _GREY, np.uint8)
    top = (size - len(words)) // 2
    tile[top : top + len(words), 4 : size - 4] = np.minimum(words, _GREY)
    cv2.rectangle(tile, (0, 0), (size - 1, size - 1), INK, 1)
    return tile
