"""Rows of a table that may be larger than memory: chosen, centred and scaled as they are read."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

CHUNK = 8192  # rows read at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a table, read on demand as (row - mean) / scale.

    Attributes:
        table: float `[all rows, num_features]`, an array or something sliced and indexed like one.
        numbers: int64 `[rows]`: which of its rows.
        mean: float32 `[num_features]`.
        scale: one number above 0; None divides each row by its own length.
    """

    table: Any
    numbers: np.ndarray
    mean: np.ndarray
    scale: float | None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features."""
        return len(self.numbers), self.table.shape[1]

    def __getitem__(self, chosen: Any) -> np.ndarray:
        vectors = np.asarray(self.table[self.numbers[chosen]], np.float32) - self.mean
        if self.scale is not None:
            vectors /= np.float32(self.scale)
            return vectors
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)  # the mean itself stays 0
        return vectors

    def select(self, chosen: np.ndarray) -> "Rows":
        """Gives some of these rows, by their places here."""
        return dataclasses.replace(self, numbers=self.numbers[chosen])

    def unscale(self, weights: np.ndarray) -> np.ndarray:
        """Turns classifiers of these rows into classifiers of the table's, where these are scaled.

        Args:
            weights: float32 `[num_clusters, num_features + 1]`, the bias last.
        """
        if self.scale is None:
            return weights
        slopes = weights[:, :-1] / np.float32(self.scale)
        return np.concatenate([slopes, weights[:, -1:] - slopes @ self.mean[:, None]], axis=1)

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Gives (place of the first row, float32 rows), a chunk at a time."""
        for start in range(0, len(self), CHUNK):
            yield start, self[start : start + CHUNK]

    def load(self) -> np.ndarray:
        """Gives all rows, float32, reading a chunk at a time: memory holds them once."""
        loaded = np.empty(self.shape, np.float32)
        for start, chunk in self.read():
            loaded[start : start + len(chunk)] = chunk
        return loaded


def measure(table: Any) -> tuple[np.ndarray, float]:
    """Gives (mean of each feature, root mean square length about it) of finite rows.

    Args:
        table: float `[rows, num_features]`.

    Raises:
        ValueError: if a value is not finite, or all rows are equal.
    """
    num_rows = len(table)
    total = np.zeros(table.shape[1])
    for start in range(0, num_rows, CHUNK):
        chunk = np.asarray(table[start : start + CHUNK], np.float64)
        _check_finite(chunk, start)
        total += chunk.sum(axis=0)
    mean = total / num_rows
    squares = 0.0
    for start in range(0, num_rows, CHUNK):
        chunk = np.asarray(table[start : start + CHUNK], np.float64)
        squares += float(((chunk - mean) ** 2).sum())
    scale = float(np.sqrt(squares / num_rows))
    if scale <= 1e-12 * max(1.0, float(np.linalg.norm(mean))):
        raise ValueError(
            "The samples must differ from one another: there is nothing to cluster. Received: "
            f"{num_rows} equal rows"
        )
    return mean.astype(np.float32), scale


def _check_finite(chunk: np.ndarray, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(chunk).all(axis=1))
    if len(bad):
        raise ValueError(
            "Features must be finite numbers; leave such rows out. Input contains NaN or infinity, "
            f"first in row {start + int(bad[0])} of {chunk.shape[1]} features"
        )
