"""Photographs with the four patches of a constellation drawn on them."""

from __future__ import annotations

import cv2
import numpy as np

from keras_ctxattr.pictures.sheets import Image

# Of colours that those who cannot tell red from green can tell apart (Okabe and Ito 2008).
CORNERS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167))
"""RGB of the upper left, upper right, lower left and lower right patch."""

_WHITE = (255, 255, 255)


def constellation_picture(image: Image, boxes: np.ndarray, *, size: int = 192) -> np.ndarray:
    """Draws four patches on a photograph, each corner in a colour of its own.

    Args:
        image: Uint8 `[height, width, 3]`.
        boxes: Float `[4, 4]`: upper left, upper right, lower left and lower right patch of the
            constellation, as (left, top, right, bottom) in the image's pixels.
        size: Longer side of the picture in pixels, 32 or more.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: If there are not four boxes, or `size` is too small.
    """
    given = np.asarray(boxes, np.float64)
    if given.shape != (4, 4) or size < 32:
        raise ValueError(
            "`boxes` must be [4, 4], and `size` at least 32. "
            f"Received: {list(given.shape)}, size={size}"
        )
    scale = size / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image, (width, height), interpolation=method)
    for box, colour in zip(given * scale, CORNERS, strict=True):
        left, top, right, bottom = np.rint(box).astype(int).tolist()
        corners = (left + 1, top + 1), (right - 2, bottom - 2)
        cv2.rectangle(picture, *corners, _WHITE, 3)  # seen on any photograph
        cv2.rectangle(picture, *corners, colour, 2)
    return picture
