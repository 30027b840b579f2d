"""All images of an index compared with each other, a tile of the table at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from keras_ctxattr.search.images import ImageIndex

Progress = Callable[[int, int | None], None]

MIN_WHITENED = 16
"""Fewer images than these have no covariance to speak of; their vectors stay as they are."""

_ROWS = 1024  # of a tile; it has 64 MiB with these columns
_COLUMNS = 16384
_CHUNK = 8192  # rows that are read at a time
# Shrinkage of the covariance, as a share of the mean variance. Chosen on 300 photographs and 200
# re-encoded ones, whole and in parts of 15 to 300: copies stay above 0.6, others below 0.5.
_SHRINKAGE = 0.05
_SHRINKAGE_PER_IMAGE = 50.0


def unit_vectors(index: ImageIndex) -> np.ndarray:
    """Gives what images are compared by, float32 `[n, dimensions]` of unit length.

    That is their features; in an index that keeps none, their attribute scores less their mean.
    """
    if index.has_vectors:
        return _unit(np.concatenate([index.vectors(part) for part in _parts(len(index))]))
    scores = np.concatenate([index.scores(part) for part in _parts(len(index))])
    return _unit(scores - scores.mean(axis=0)) if len(scores) >= MIN_WHITENED else _unit(scores)


def whiten(vectors: np.ndarray) -> np.ndarray:
    """Gives vectors in which no direction is common, so that only copies are alike.

    Photographs share most of their features: the cosine of any two is near 1. Less the mean, and
    with every principal direction brought to about the same variance, two different photographs
    have a cosine near 0, and two encodings of one still a large one.

    Args:
        vectors: Float32 `[n, dimensions]`; at least 16, or they are given back as they are.

    Returns:
        Float32 `[n, dimensions]` of unit length.
    """
    if len(vectors) < MIN_WHITENED:
        return _unit(vectors)
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((vectors.shape[1],) * 2)
    for part in _parts(len(vectors)):
        centred = vectors[part] - mean
        covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance / len(vectors))
    share = _SHRINKAGE + _SHRINKAGE_PER_IMAGE / len(vectors)
    variances = np.maximum(variances, 0) + share * max(variances.mean(), 1e-12)
    transform = (axes / np.sqrt(variances)).astype(np.float32)
    return np.concatenate(
        [_unit((vectors[part] - mean) @ transform) for part in _parts(len(vectors))]
    )


def find_pairs(
    vectors: np.ndarray, similarity: float, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gives all pairs of rows whose cosine is at least `similarity`.

    Args:
        vectors: Float32 `[n, dimensions]` of unit length.
        similarity: -1 to 1.
        progress: Called with (rows done, all of them).

    Returns:
        (pairs int64 `[p, 2]`, the lower row first; cosines float32 `[p]`).
    """
    pairs = [np.empty((0, 2), np.int64)]
    cosines = [np.empty(0, np.float32)]
    for start, stop in _steps(len(vectors), _ROWS, progress):
        for left in range(start, len(vectors), _COLUMNS):
            tile = vectors[start:stop] @ vectors[left : left + _COLUMNS].T
            rows, columns = np.nonzero(tile >= similarity)
            is_upper = columns + left > rows + start
            rows, columns = rows[is_upper], columns[is_upper]
            pairs.append(np.stack([rows + start, columns + left], axis=1))
            cosines.append(tile[rows, columns])
    return np.concatenate(pairs), np.concatenate(cosines)


def nearest_others(
    vectors: np.ndarray, count: int, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the nearest other rows of each row, the nearest first.

    Args:
        vectors: Float32 `[n, dimensions]` of unit length.
        count: How many; less than n.
        progress: Called with (rows done, all of them).

    Returns:
        (rows int64 `[n, count]`, cosines float32 `[n, count]`).
    """
    found, cosines = [], []
    for start, stop in _steps(len(vectors), _ROWS, progress):
        best = np.full((stop - start, count), -2, np.float32)
        rows = np.zeros((stop - start, count), np.int64)
        for left in range(0, len(vectors), _COLUMNS):
            tile = vectors[start:stop] @ vectors[left : left + _COLUMNS].T
            own = np.arange(max(start, left), min(stop, left + tile.shape[1]))
            tile[own - start, own - left] = -2
            best, rows = _merge_best(best, rows, tile, left)
        order = np.argsort(-best, axis=1, kind="stable")
        found.append(np.take_along_axis(rows, order, axis=1))
        cosines.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found), np.concatenate(cosines)


def _merge_best(
    best: np.ndarray, rows: np.ndarray, tile: np.ndarray, left: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the largest of what was found before and of a tile, in no order."""
    count = best.shape[1]
    taken = min(count, tile.shape[1])
    chosen = np.argpartition(tile, -taken, axis=1)[:, -taken:]
    values = np.concatenate([best, np.take_along_axis(tile, chosen, axis=1)], axis=1)
    places = np.concatenate([rows, chosen + left], axis=1)
    kept = np.argpartition(values, -count, axis=1)[:, -count:]
    return np.take_along_axis(values, kept, axis=1), np.take_along_axis(places, kept, axis=1)


def _steps(count: int, size: int, progress: Progress | None) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield start, stop
        if progress is not None:
            progress(stop, count)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, max(count, 1), _CHUNK)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
