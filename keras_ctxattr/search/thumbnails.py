"""Copies told from images that are merely alike, by their thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from keras_ctxattr.search.likeness import Progress
from keras_ctxattr.search.pixels import UnavailableError, read_pixels
from keras_ctxattr.search.records import IndexedImage

CORRELATION = 0.98
"""Of thumbnails of copies, at least. 300 photographs: copies of half the size or JPEG quality 50
reach 0.997, no two different ones 0.93."""

_SIDE = 16  # pixels
_READ_SIDE = 128  # a larger JPEG is decoded at a fraction of its size
_NUM_THREADS = 2
_MIN_CONTRAST = 1.0  # standard deviation, in grey levels; a plain surface is like any other


def confirm_copies(
    images: Sequence[IndexedImage], pairs: np.ndarray, progress: Progress | None = None
) -> np.ndarray:
    """Tells which pairs are copies by their thumbnails; every image is read once.

    Args:
        images: The images.
        pairs: Int64 `[pairs, 2]`, places in `images`.
        progress: Called with (images read, all that are in a pair).

    Returns:
        Bool `[pairs]`; True where an image cannot be read, or has no contrast: nothing is said
        against the pair.
    """
    rows = np.unique(pairs)
    thumbnails = np.zeros((len(rows), _SIDE * _SIDE * 3), np.float16)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        read = pool.map(_thumbnail, (images[row] for row in rows))
        for done, thumbnail in enumerate(read, start=1):
            thumbnails[done - 1] = thumbnail
            if progress is not None:
                progress(done, len(rows))
    first, second = (np.searchsorted(rows, side) for side in pairs.T)
    is_known = np.asarray(thumbnails.any(axis=1))
    kept = np.ones(len(pairs), bool)
    kept[is_known[first] & is_known[second]] = False
    for start in range(0, len(pairs), 4096):
        part = slice(start, start + 4096)
        one, other = (thumbnails[side[part]].astype(np.float32) for side in (first, second))
        kept[part] |= (one * other).sum(axis=1) >= CORRELATION
    return kept


def _thumbnail(image: IndexedImage) -> np.ndarray:
    """Gives a vector of unit length whose products are correlations; zeros if there is none."""
    try:
        pixels = read_pixels(image, _READ_SIDE)
    except UnavailableError:
        return np.zeros(_SIDE * _SIDE * 3)
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    if small.std() < _MIN_CONTRAST:
        return np.zeros(small.size)
    centred = (small - small.mean()).ravel()
    return centred / np.linalg.norm(centred)
