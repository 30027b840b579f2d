"""The pixels of indexed images, for those who look at results."""

from __future__ import annotations

import os

import cv2
import numpy as np

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import load_entry
from keras_ctxattr.data.manifest.scan import MAX_PIXELS
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.search.describing import UndecodableError, decode_pixels
from keras_ctxattr.search.records import IndexedImage

_REDUCTIONS = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)


class UnavailableError(ValueError):
    """An indexed image whose bytes are no longer where they were; the message is a clause."""


def read_pixels(image: IndexedImage, size: int | None = None) -> np.ndarray:
    """Gives the upright pixels of an indexed image, from where it lies.

    Args:
        image: Of an index.
        size: Longer side in pixels that is enough: a larger JPEG is decoded at 1/2, 1/4 or 1/8,
            which takes a fraction of the time.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        UnavailableError: If its file is gone, changed or unreadable.
    """
    encoded = read_encoded(image)
    if image.format == "jpeg" and size is not None:
        pixels = _decode_reduced(encoded, max(image.height, image.width) / size)
        if pixels is not None:
            return pixels
    try:
        return decode_pixels(encoded)
    except UndecodableError as error:
        raise UnavailableError(str(error)) from error


def read_encoded(image: IndexedImage) -> bytes:
    """Gives the contents of an indexed image, in a format that TensorFlow reads.

    Raises:
        UnavailableError: If its file is gone, or has other bytes than when it was indexed.
    """
    if not os.path.exists(image.place.path):  # noqa: PTH110 - a name need not be UTF-8
        raise UnavailableError("its file is gone")
    facts, encoded = load_entry(
        Entry(
            key=image.name,
            path=image.place.path,
            offset=image.place.offset,
            length=image.place.length,
            total=image.place.total,
        ),
        max_pixels=MAX_PIXELS,
        cache_dir=default_cache_dir(),
    )
    if facts.digest and facts.digest != image.digest:
        raise UnavailableError("its file has changed since")
    if facts.skip:
        raise UnavailableError(facts.skip)
    return encoded


def _decode_reduced(encoded: bytes, factor: float) -> np.ndarray | None:
    """Decodes a JPEG at the largest reduction that is no smaller than asked, upright."""
    for reduction, flag in _REDUCTIONS:
        if factor >= reduction:
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
            return None if pixels is None else pixels[:, :, ::-1]
    return None
