"""Many one-against-negatives SVMs over one set of negatives: blocks, memory, hard negatives."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.clustering.svm.descent import Solution, minimize
from keras_ctxattr.clustering.svm.problem import Block, Tile, score_margins
from keras_ctxattr.clustering.svm.spectrum import Spectrum

Progress = Callable[[int, int], None]

_TILE_ROWS = 2048
_MAX_BLOCK = 512
_SAMPLE_ROWS = 4096
_SAMPLE_PART = 1024
_MAX_ROUNDS = 30
_BYTES = 4  # of a float32
_MATRICES = 5  # negatives x clusters that a block needs at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSVMs:
    """One linear classifier a cluster.

    Attributes:
        weights: float32 `[num_clusters, num_features + 1]`; the last column is the bias.
        objectives: float32 `[num_clusters]`: the objective over all negatives.
        converged: bool `[num_clusters]`: whether the tolerance was reached.
        num_gradients: gradients of a whole block that it took, on average.
    """

    weights: np.ndarray
    objectives: np.ndarray
    converged: np.ndarray
    num_gradients: float

    def decision_function(self, vectors: Any) -> np.ndarray:
        """Gives float32 `[rows, num_clusters]`: above 0 on the side of the cluster."""
        return decide(self.weights, vectors)


def decide(weights: np.ndarray, vectors: Any) -> np.ndarray:
    """Scores rows by linear classifiers whose last column is the bias.

    Args:
        weights: float32 `[num_clusters, num_features + 1]`.
        vectors: float `[rows, num_features]`.

    Returns:
        Float32 `[rows, num_clusters]`.
    """
    return np.asarray(vectors, np.float32) @ weights[:, :-1].T + weights[:, -1]


def fit_linear_svms(
    positives: Any,
    cluster_ids: Any,
    negatives: Any,
    *,
    C: float = 0.1,
    tolerance: float = 3e-4,
    excluded: Any = None,
    cache_bytes: int = 1 << 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> LinearSVMs:
    """Trains one linear SVM a cluster, its members against all negatives, many at a time.

    Each minimises 1/2 |w|^2 + C sum max(0, 1 - y w x)^2 with a regularised intercept: the objective
    of liblinear and of `sklearn.svm.LinearSVC(C=C, loss="squared_hinge")`. Runs on the GPU if there
    is one.

    Where the negatives take more than `cache_bytes`, each block of clusters works on the negatives
    that are hard for one of them, and the others are read once a round to look for new ones. Where
    even those take more, as with a small `C`, all are read for each gradient.
    Memory: `cache_bytes`, once for the rows and once for what scores them at most; and float32
    vectors of num_features + 1: 6 144 of negatives that pass through, the positives of a block
    and 8 a cluster of it, and up to 3 000 features 3 (num_features + 1) of moments. A block has up
    to 512 clusters. TensorFlow takes some 50 MB by itself.

    Args:
        positives: float `[num_positives, num_features]`.
        cluster_ids: int `[num_positives]`: the cluster of each, 0 to k - 1, each at least once.
        negatives: float `[num_negatives, num_features]`, an array or something that is sliced like
            one (memory-mapped).
        C: weight of a sample's loss, above 0.
        tolerance: of the objective, relative; 3e-4 keeps it within 1e-3 of the minimum.
        excluded: int `[pairs, 2]`, (row of `negatives`, cluster for which it is *no* negative):
            where the negatives are other clusters' members.
        cache_bytes: memory for negatives, at least that of 256 of them.
        seed: seed of the sample from which second moments are taken.
        progress: called with (clusters done, clusters in all).

    Returns:
        The classifiers, in the order of their numbers.

    Raises:
        ValueError: if shapes do not fit, a cluster has no member, or a value is not finite.

    Reference:
        Fan et al. 2008, LIBLINEAR; Huang, Loy, Tang 2016, section 3.1.
    """
    vectors, ids = _check(positives, cluster_ids, negatives, C, tolerance)
    pairs = None if excluded is None else _check_pairs(excluded, len(negatives))
    num_clusters = int(ids.max()) + 1
    source = _Negatives(negatives, cache_bytes)
    spectrum = Spectrum(source.sample(_SAMPLE_ROWS, seed), len(source), C)
    members = np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1])
    # Clusters of like size share a block: the positives are padded to the largest.
    order = np.argsort([len(rows) for rows in members], kind="stable")
    weights = np.zeros((num_clusters, vectors.shape[1] + 1), np.float32)
    objectives = np.zeros(num_clusters, np.float32)
    converged = np.zeros(num_clusters, bool)
    done, work = 0, 0.0
    for columns in _blocks(order, source.block_size):
        block = _make_block(vectors, members, columns, C, pairs)
        found = _solve(block, source, spectrum, spectrum.start(block), tolerance)
        weights[columns] = found.weights.T
        objectives[columns] = found.objectives
        converged[columns] = found.converged
        done, work = done + len(columns), work + found.num_gradients * len(columns)
        if progress is not None:
            progress(done, num_clusters)
    return LinearSVMs(
        weights=weights,
        objectives=objectives,
        converged=converged,
        num_gradients=work / num_clusters,
    )


class _Negatives:
    """The negatives: in memory where they fit, else read in tiles."""

    def __init__(self, rows: Any, cache_bytes: int) -> None:
        self._rows = rows
        self.capacity = max(256, cache_bytes // (_BYTES * rows.shape[1]))
        working = min(len(rows), self.capacity)
        self.block_size = _count_clusters(cache_bytes, working)
        self.streamed_block_size = _count_clusters(cache_bytes, len(rows))
        self.fits = len(rows) <= self.capacity
        self.tiles = list(self.read()) if self.fits else []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Tile]:
        return self.read()

    def read(self) -> Iterator[Tile]:
        """Gives all rows, a tile at a time."""
        for start in range(0, len(self), _TILE_ROWS):
            numbers = np.arange(start, min(start + _TILE_ROWS, len(self)))
            yield self._tile(slice(start, start + _TILE_ROWS), numbers)

    def choose(self, numbers: np.ndarray) -> list[Tile]:
        """Gives some rows as tiles."""
        parts = [
            numbers[start : start + _TILE_ROWS] for start in range(0, len(numbers), _TILE_ROWS)
        ]
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


def _count_clusters(cache_bytes: int, num_rows: int) -> int:
    """Gives how many clusters' margins with so many negatives the cache holds."""
    return int(np.clip(cache_bytes // (_BYTES * _MATRICES * max(1, num_rows)), 1, _MAX_BLOCK))


def _solve(
    block: Block, source: _Negatives, spectrum: Spectrum, start: tf.Tensor, tolerance: float
) -> Solution:
    if not source.fits:
        return _mine(block, source, spectrum, start, tolerance)
    return minimize(block, source.tiles, spectrum, start, tolerance)


def _mine(
    block: Block, source: _Negatives, spectrum: Spectrum, start: tf.Tensor, tolerance: float
) -> Solution:
    """Alternates between solving on the hard negatives and looking for others.

    What the cache leaves out can only lower the objective; so a solution on the cache whose loss on
    the rest is within the tolerance is a solution.
    """
    weights, cached = start, np.zeros(0, np.int64)
    objectives, work = np.zeros(len(block.ids), np.float32), 0.0
    converged = np.zeros(len(block.ids), bool)
    for number in range(_MAX_ROUNDS + 1):
        hard, left_out = _look_for_hard(block, source, weights, cached)
        is_small = left_out <= tolerance * objectives
        if is_small.all() or number == _MAX_ROUNDS:
            break
        if len(hard) > source.capacity:
            return _stream(block, source, spectrum, weights, tolerance)
        cached = np.sort(hard)
        found = minimize(block, source.choose(cached), spectrum, weights, tolerance)
        weights, objectives = tf.constant(found.weights), found.objectives
        converged, work = found.converged, work + found.num_gradients
    return Solution(
        weights=weights.numpy(),
        objectives=objectives + left_out,
        converged=converged & is_small,
        num_gradients=work,
    )


def _stream(
    block: Block, source: _Negatives, spectrum: Spectrum, weights: tf.Tensor, tolerance: float
) -> Solution:
    """Solves a block that has more hard negatives than the cache holds: reads all, every time.

    A small C leaves most negatives inside the margin. What the cache then holds is the margins of
    so many clusters as fit.
    """
    count = -(-len(block.ids) // source.streamed_block_size)
    parts = [
        minimize(
            block.select(columns),
            source,
            spectrum,
            tf.gather(weights, columns, axis=1),
            tolerance,
        )
        for columns in np.array_split(np.arange(len(block.ids)), count)
    ]
    shares = [part.weights.shape[1] / len(block.ids) for part in parts]
    return Solution(
        weights=np.concatenate([part.weights for part in parts], axis=1),
        objectives=np.concatenate([part.objectives for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
        num_gradients=sum(s * part.num_gradients for s, part in zip(shares, parts, strict=True)),
    )


def _look_for_hard(
    block: Block, source: _Negatives, weights: tf.Tensor, cached: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives (rows that are active for some cluster, hardest first; loss of those not cached)."""
    is_cached = np.zeros(len(source), bool)
    is_cached[cached] = True
    left_out = np.zeros(len(block.ids), np.float32)
    hardness = np.full(len(source), -np.inf, np.float32)
    start = 0
    for tile in source.read():
        margins = score_margins(block, tile, weights).numpy()
        rows = slice(start, start + len(margins))
        hardness[rows] = margins.max(axis=1)
        losses = np.maximum(margins[~is_cached[rows]], 0)
        left_out += float(block.C) * (losses**2).sum(axis=0)
        start += len(margins)
    hard = np.flatnonzero(hardness > 0)
    return hard[np.argsort(-hardness[hard], kind="stable")], left_out


def _blocks(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _make_block(
    vectors: np.ndarray,
    members: list[np.ndarray],
    columns: np.ndarray,
    C: float,
    excluded: np.ndarray | None,
) -> Block:
    largest = max(len(members[column]) for column in columns)
    positives = np.zeros((len(columns), largest, vectors.shape[1]), np.float32)
    valid = np.zeros((len(columns), largest), np.float32)
    for place, column in enumerate(columns):
        count = len(members[column])
        positives[place, :count] = vectors[members[column]]
        valid[place, :count] = 1
    return Block(
        ids=columns,
        positives=tf.constant(positives),
        valid=tf.constant(valid),
        C=tf.constant(C, tf.float32),
        excluded=excluded,
    )


def _check(
    positives: Any, cluster_ids: Any, negatives: Any, C: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gives positives and cluster ids as arrays."""
    if not (C > 0 and tolerance > 0):
        raise ValueError(
            f"`C` and `tolerance` must be above 0. Received: C={C}, tolerance={tolerance}"
        )
    vectors, ids = np.asarray(positives, np.float32), np.asarray(cluster_ids)
    if vectors.ndim != 2 or len(vectors) == 0 or ids.shape != (len(vectors),):
        raise ValueError(
            "`positives` must be [num_positives, num_features] with one of `cluster_ids` each, and "
            f"at least one. Received: shapes {vectors.shape} and {ids.shape}"
        )
    if len(negatives.shape) != 2 or not len(negatives) or negatives.shape[1] != vectors.shape[1]:
        raise ValueError(
            "`negatives` must be [num_negatives, num_features] with the features of `positives`, "
            f"and at least one. Received: {tuple(negatives.shape)} beside {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise ValueError(
            "`positives` must be finite numbers. Received: "
            f"{int((~np.isfinite(vectors)).any(axis=1).sum())} rows with NaN or infinity"
        )
    if ids.dtype.kind not in "iu" or ids.min() < 0 or (np.bincount(ids) == 0).any():
        raise ValueError(
            "`cluster_ids` must be the integers 0 to k - 1, each at least once. "
            f"Received: {np.unique(ids)[:8]}{'...' if len(np.unique(ids)) > 8 else ''}"
        )
    return vectors, ids


def _check_pairs(excluded: Any, num_negatives: int) -> np.ndarray:
    """Gives the pairs in ascending order of the negatives."""
    pairs = np.asarray(excluded)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "`excluded` must be integers [pairs, 2]: a negative and a cluster. "
            f"Received: {pairs.dtype} {pairs.shape}"
        )
    if len(pairs) and not (pairs.min() >= 0 and pairs[:, 0].max() < num_negatives):
        raise ValueError(
            f"The negatives in `excluded` must be rows 0 to {num_negatives - 1}. "
            f"Received: {pairs[:, 0].min()} to {pairs[:, 0].max()}"
        )
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
