"""What the search page shows of an index: pictures, attributes by example, groups of images."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_ctxattr.search import ImageIndex
from keras_ctxattr.search.pixels import read_pixels
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.search.store import MODULE

THUMBNAIL, PICTURE = 192, 960
"""Longer side in pixels of what a browser gets; files themselves are never sent."""

_CHECK_SECONDS = 1.0
_CACHE_BYTES = 64 << 20
_JPEG_QUALITY = 85
_MAX_GROUPS = 48
_GROUP_SAMPLE = 20_000
_IMAGES_OF_A_GROUP = 12
_IMAGES_OF_A_SIDE = 8


class ServedIndex:
    """An index while others may change it, and what was computed of it.

    Args:
        folder: An index.

    Raises:
        ImageIndexError: If it is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._index = ImageIndex(folder)
        self._checked = time.monotonic()
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._num_bytes = 0
        self._computed: dict[str, tuple[int, Any]] = {}

    @property
    def name(self) -> str:
        """What the index is called: its folder's name."""
        return self.folder.resolve().name

    @property
    def module(self) -> Path:
        """The folder of the module that describes its images."""
        return self.folder / MODULE

    def current(self) -> ImageIndex:
        """Gives the index as it is, at most a second old; what was given before stays valid."""
        with self._lock:
            if time.monotonic() - self._checked >= _CHECK_SECONDS:
                self._checked = time.monotonic()
                if self._index.store.generation() != self._index.generation:
                    self._index = ImageIndex(self.folder)
            return self._index

    def picture(self, image: IndexedImage, size: int) -> bytes:
        """Gives an image as JPEG, its longer side at most `size`.

        Raises:
            UnavailableError: If its file is gone, changed or unreadable.
        """
        key = (image.digest, size)
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        encoded = _encode(read_pixels(image, size), size)
        with self._lock:
            if key not in self._pictures:
                self._pictures[key] = encoded
                self._num_bytes += len(encoded)
            while self._num_bytes > _CACHE_BYTES:
                self._num_bytes -= len(self._pictures.popitem(last=False)[1])
        return encoded

    def shares(self) -> np.ndarray:
        """Gives the share of the images that have each bit, float64 `[num_attributes]`."""
        return self._compute("shares", _find_shares)

    def sides(self) -> list[dict[str, Any]]:
        """Gives for each bit its `share`, and the rows that have it and lack it most clearly."""
        return self._compute("sides", _find_sides)

    def groups(self) -> list[dict[str, Any]]:
        """Gives groups of images by k-means: `num_images`, and the rows nearest to the centre."""
        return self._compute("groups", _find_groups)

    def _compute(self, name: str, find: Any) -> Any:
        """Gives what was computed of the current state, or computes it."""
        index = self.current()
        with self._lock:
            generation, found = self._computed.get(name, (-1, None))
        if generation != index.generation:
            found = find(index)
            with self._lock:
                self._computed[name] = (index.generation, found)
        return found


def _encode(pixels: np.ndarray, size: int) -> bytes:
    scale = size / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", pixels[:, :, ::-1], quality)[1].tobytes()


def _find_shares(index: ImageIndex) -> np.ndarray:
    if not len(index):
        return np.zeros(index.num_attributes)
    return np.unpackbits(index.codes, axis=1).mean(axis=0, dtype=np.float64)


def _find_sides(index: ImageIndex) -> list[dict[str, Any]]:
    shares = _find_shares(index)
    order = np.argsort(index.scores(), axis=0, kind="stable").T
    sides = []
    for bit, share in enumerate(shares):
        num_having = round(float(share) * len(index))
        num_lacking = len(index) - num_having
        sides.append(
            {
                "bit": bit,
                "share": float(share),
                "having": order[bit, ::-1][: min(num_having, _IMAGES_OF_A_SIDE)],
                "lacking": order[bit][: min(num_lacking, _IMAGES_OF_A_SIDE)],
            }
        )
    return sides


def _find_groups(index: ImageIndex) -> list[dict[str, Any]]:
    from sklearn.cluster import MiniBatchKMeans

    if not len(index):
        return []
    generator = np.random.default_rng(0)
    rows = np.sort(generator.permutation(len(index))[:_GROUP_SAMPLE])
    num_groups = int(np.clip(len(rows) // _IMAGES_OF_A_GROUP, 1, _MAX_GROUPS))
    vectors = index.vectors(rows) if index.has_vectors else index.scores(rows)
    means = MiniBatchKMeans(num_groups, random_state=0, n_init=3).fit(
        vectors - vectors.mean(axis=0)
    )
    groups = []
    for group in range(num_groups):
        members = np.flatnonzero(means.labels_ == group)
        if not len(members):
            continue
        centred = vectors[members] - vectors.mean(axis=0) - means.cluster_centers_[group]
        nearest = members[np.argsort(np.square(centred).sum(axis=1), kind="stable")]
        share = len(members) / len(rows)
        groups.append(
            {
                "num_images": round(share * len(index)),
                "rows": rows[nearest[:_IMAGES_OF_A_GROUP]],
            }
        )
    return sorted(groups, key=lambda group: -group["num_images"])
