"""Many one-against-negatives SVMs over one set of negatives: blocks, memory, hard negatives."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.clustering.svm.checks import check_pairs, check_problem
from keras_ctxattr.clustering.svm.descent import Solution, minimize
from keras_ctxattr.clustering.svm.devices import GuardedTable, place, resolve_devices, solve_blocks
from keras_ctxattr.clustering.svm.negatives import Negatives
from keras_ctxattr.clustering.svm.problem import Block, score_margins
from keras_ctxattr.clustering.svm.spectrum import Spectrum

Progress = Callable[[int, int], None]

_SAMPLE_ROWS = 4096
_MAX_ROUNDS = 30


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
    scores = np.asarray(vectors, np.float32) @ weights[:, :-1].T
    scores += weights[:, -1]
    return scores


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
    devices: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> LinearSVMs:
    """Trains one linear SVM a cluster, its members against all negatives, many at a time.

    Each minimises 1/2 |w|^2 + C sum max(0, 1 - y w x)^2 with a regularised intercept: the objective
    of liblinear and of `sklearn.svm.LinearSVC(C=C, loss="squared_hinge")`. Runs on the GPU if there
    is one; where there are several, blocks of clusters are divided over them, and each takes the
    memory below: with as many blocks as devices or more, none is idle for long. Results are the
    same bit for bit, however many devices of a kind there are.

    Where the negatives take more than `cache_bytes`, each block of clusters works on the negatives
    that are hard for one of them, and the others are read once a round to look for new ones. Where
    even those take more, as with a small `C`, all are read for each gradient.
    Memory: `cache_bytes`, once for the rows and once for what scores them at most; and float32
    vectors of num_features + 1: 6 144 of negatives that pass through, the positives of a block
    and 8 a cluster of it, and up to 3 000 features 3 (num_features + 1) of moments. A block has up
    to 512 clusters. TensorFlow takes some 50 MB by itself, and oneDNN what
    `keras_ctxattr.clustering.memory` says, which has the formula.

    Args:
        positives: float `[num_positives, num_features]`: an array, or a table that is indexed like
            one and read for each block.
        cluster_ids: int `[num_positives]`: the cluster of each, 0 to k - 1, each at least once.
        negatives: float `[num_negatives, num_features]`, an array or something that is sliced like
            one (memory-mapped).
        C: weight of a sample's loss, above 0.
        tolerance: of the objective, relative; 3e-4 keeps it within 1e-3 of the minimum.
        excluded: int `[pairs, 2]`, (row of `negatives`, cluster for which it is *no* negative):
            where the negatives are other clusters' members.
        cache_bytes: memory for negatives, at least that of 256 of them.
        seed: seed of the sample from which second moments are taken.
        devices: logical devices of TensorFlow to divide the blocks over, such as `("GPU:0",
            "GPU:1")`; None: all GPUs, or the CPU.
        progress: called with (clusters done, clusters in all).

    Returns:
        The classifiers, in the order of their numbers.

    Raises:
        ValueError: if shapes do not fit, a cluster has no member, or a value is not finite.

    Reference:
        Fan et al. 2008, LIBLINEAR; Huang, Loy, Tang 2016, section 3.1.
    """
    names = resolve_devices(devices)
    vectors, ids = check_problem(positives, cluster_ids, negatives, C, tolerance)
    pairs = None if excluded is None else check_pairs(excluded, len(negatives))
    if len(names) > 1:
        lock = threading.Lock()
        vectors, negatives = GuardedTable(vectors, lock), GuardedTable(negatives, lock)
    num_clusters = int(ids.max()) + 1
    source = Negatives(negatives, cache_bytes, names[0])
    spectrum = Spectrum(source.sample(_SAMPLE_ROWS, seed), len(source), C)
    members = np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1])

    def make_solver(name: str | None) -> Callable[[np.ndarray], Solution]:
        own = source if name == names[0] else Negatives(negatives, cache_bytes, name)
        moments = spectrum if name is None else spectrum.copy_to(name)

        def solve(columns: np.ndarray) -> Solution:
            with place(name):
                block = _make_block(vectors, members, columns, C, pairs)
                return _solve(block, own, moments, moments.start(block), tolerance)

        return solve

    weights = np.zeros((num_clusters, vectors.shape[1] + 1), np.float32)
    objectives = np.zeros(num_clusters, np.float32)
    converged = np.zeros(num_clusters, bool)
    num_gradients = np.zeros(num_clusters)
    # Clusters of like size share a block: the positives are padded to the largest.
    order = np.argsort([len(rows) for rows in members], kind="stable")
    done = 0
    solvers = [make_solver(name) for name in names]
    for columns, found in solve_blocks(_blocks(order, source.block_size), solvers):
        weights[columns] = found.weights.T
        objectives[columns] = found.objectives
        converged[columns] = found.converged
        num_gradients[columns] = found.num_gradients
        done += len(columns)
        if progress is not None:
            progress(done, num_clusters)
    return LinearSVMs(
        weights=weights,
        objectives=objectives,
        converged=converged,
        num_gradients=float(num_gradients.mean()),
    )


def _solve(
    block: Block, source: Negatives, spectrum: Spectrum, start: tf.Tensor, tolerance: float
) -> Solution:
    if not source.fits:
        return _mine(block, source, spectrum, start, tolerance)
    return minimize(block, source.tiles, spectrum, start, tolerance)


def _mine(
    block: Block, source: Negatives, spectrum: Spectrum, start: tf.Tensor, tolerance: float
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
    block: Block, source: Negatives, spectrum: Spectrum, weights: tf.Tensor, tolerance: float
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
    block: Block, source: Negatives, weights: tf.Tensor, cached: np.ndarray
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
    vectors: Any,
    members: list[np.ndarray],
    columns: np.ndarray,
    C: float,
    excluded: np.ndarray | None,
) -> Block:
    chosen = [members[column] for column in columns]
    sizes = [len(rows) for rows in chosen]
    positives = np.zeros((len(columns), max(sizes), vectors.shape[1]), np.float32)
    valid = np.zeros(positives.shape[:2], np.float32)
    gathered = np.split(vectors[np.concatenate(chosen)], np.cumsum(sizes)[:-1])
    for number, rows in enumerate(gathered):
        positives[number, : len(rows)] = rows
        valid[number, : len(rows)] = 1
    return Block(
        ids=columns,
        positives=tf.constant(positives),
        valid=tf.constant(valid),
        C=tf.constant(C, tf.float32),
        excluded=excluded,
    )
