"""The negatives that all SVMs share, and how much of them memory holds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.clustering.svm.devices import place
from keras_ctxattr.clustering.svm.problem import Tile

TILE_ROWS = 2048
MAX_BLOCK = 512
MATRICES = 5  # negatives x clusters that a block needs at a time
_SAMPLE_PART = 1024
_BYTES = 4  # of a float32


class Negatives:
    """The negatives: in memory where they fit, else read in tiles.

    Args:
        rows: float `[num_negatives, num_features]`, sliced and indexed like an array.
        cache_bytes: memory for them, and for what scores them.
        device: logical device that keeps those that fit; None leaves it to TensorFlow.
    """

    def __init__(self, rows: Any, cache_bytes: int, device: str | None = None) -> None:
        self._rows = rows
        self.capacity = max(256, cache_bytes // (_BYTES * rows.shape[1]))
        working = min(len(rows), self.capacity)
        self.block_size = count_clusters(cache_bytes, working)
        self.streamed_block_size = count_clusters(cache_bytes, len(rows))
        self.fits = len(rows) <= self.capacity
        with place(device):
            self.tiles = list(self.read()) if self.fits else []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Tile]:
        return self.read()

    def read(self) -> Iterator[Tile]:
        """Gives all rows, a tile at a time."""
        for start in range(0, len(self), TILE_ROWS):
            numbers = np.arange(start, min(start + TILE_ROWS, len(self)))
            yield self._tile(slice(start, start + TILE_ROWS), numbers)

    def choose(self, numbers: np.ndarray) -> list[Tile]:
        """Gives some rows as tiles."""
        parts = [numbers[start : start + TILE_ROWS] for start in range(0, len(numbers), TILE_ROWS)]
        return [self._tile(part, part) for part in parts]

    def sample(self, count: int, seed: int) -> Iterator[np.ndarray]:
        """Gives random rows, float32, in parts."""
        numbers = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        for start in range(0, len(numbers), _SAMPLE_PART):
            yield np.asarray(self._rows[numbers[start : start + _SAMPLE_PART]], np.float32)

    def _tile(self, chosen: Any, numbers: np.ndarray) -> Tile:
        rows = np.asarray(self._rows[chosen], np.float32)
        if not np.isfinite(rows).all():
            raise ValueError(
                "`negatives` must be finite numbers: leave out or mend rows with NaN or infinity. "
                f"Received: {int((~np.isfinite(rows)).any(axis=1).sum())} such rows in one tile"
            )
        return Tile(rows=tf.constant(rows), numbers=numbers)


def count_clusters(cache_bytes: int, num_rows: int) -> int:
    """Gives how many clusters' margins with so many negatives the cache holds."""
    return int(np.clip(cache_bytes // (_BYTES * MATRICES * max(1, num_rows)), 1, MAX_BLOCK))
