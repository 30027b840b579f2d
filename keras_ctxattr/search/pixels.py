"""The pixels of indexed images, for those who look at results."""

from __future__ import annotations

import hashlib
import os

import cv2
import numpy as np

from keras_ctxattr.search.describing import UndecodableError, decode_pixels
from keras_ctxattr.search.records import IndexedImage

_REDUCTIONS = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)


def read_pixels(image: IndexedImage, size: int | None = None) -> np.ndarray | None:
    """Gives the upright pixels of an indexed image, from where it lies.

    Args:
        image: Of an index.
        size: Longer side in pixels that is enough: a larger JPEG is decoded at 1/2, 1/4 or 1/8,
            which takes a fraction of the time.

    Returns:
        Uint8 `[height, width, 3]`; None where the file is gone, closed, or has other bytes.
    """
    encoded = read_bytes(image)
    if encoded is None:
        return None
    if image.format == "jpeg" and size is not None:
        pixels = _decode_reduced(encoded, max(image.height, image.width) / size)
        if pixels is not None:
            return pixels
    try:
        return decode_pixels(encoded)
    except UndecodableError:
        return None


def read_bytes(image: IndexedImage) -> bytes | None:
    """Gives the bytes of an indexed image as TensorFlow reads them; None where they changed."""
    place = image.place
    try:
        if image.copy:
            with open(os.fsencode(image.copy), "rb") as stream:  # noqa: PTH123 - need not be UTF-8
                return stream.read()
        with open(os.fsencode(place.path), "rb") as stream:  # noqa: PTH123 - need not be UTF-8
            stream.seek(place.offset)
            encoded = stream.read(place.length)
    except OSError:
        return None
    is_same = hashlib.blake2b(encoded, digest_size=16).hexdigest() == image.digest
    return encoded if is_same else None


def _decode_reduced(encoded: bytes, factor: float) -> np.ndarray | None:
    """Decodes a JPEG at the largest reduction that is no smaller than asked, upright."""
    for reduction, flag in _REDUCTIONS:
        if factor >= reduction:
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
            return None if pixels is None else pixels[:, :, ::-1]
    return None
