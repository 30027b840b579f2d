"""Batches of triplets: as many clusters as fit, two or more samples of each; or near neighbours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows


def triplet_batches(
    samples: Any,
    labels: np.ndarray,
    *,
    batch_size: int = 128,
    samples_per_cluster: int = 2,
    seed: int = 0,
    first_step: int = 0,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Gives training batches without end: step s is a function of (seed, s) alone.

    Clusters take turns, in an order of each pass's own, so that each is seen as often as any other
    however large it is. Of each, `samples_per_cluster` different samples are drawn, and each one's
    positive is the next of them. Samples in no cluster, and clusters of too few, are left out.

    Args:
        samples: `[n, ...]`, uint8 patches or float features: an array, or a table that is indexed
            like one.
        labels: int `[n]`: the cluster of each sample, -1 for none.
        batch_size: samples in a batch, a multiple of `samples_per_cluster`.
        samples_per_cluster: at least 2.
        seed: seed of all draws.
        first_step: where to begin.
        share: (which, of how many) devices this is for, each with as many samples of every batch.

    Returns:
        Batches (samples `[batch_size, ...]`, (clusters int32 `[batch_size]`, positives int32
        `[batch_size]`)); the positive is the place in the batch of a sample of the same cluster.

    Raises:
        ValueError: if a number is impossible, or fewer than two clusters have enough samples.

    Reference:
        Huang, Loy, Tang 2016, section 3.2: the positive is random in the cluster.
    """
    if samples_per_cluster < 2 or batch_size < 1 or batch_size % samples_per_cluster:
        raise ValueError(
            "`samples_per_cluster` must be at least 2 and divide `batch_size`. Received: "
            f"samples_per_cluster={samples_per_cluster}, batch_size={batch_size}"
        )
    rows, starts, sizes, names = _rows_by_cluster(labels, samples_per_cluster)
    groups = batch_size // samples_per_cluster
    places = np.arange(batch_size).reshape(groups, samples_per_cluster)
    positives = np.roll(places, -1, axis=1).ravel()

    def choose(step: int, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = np.random.default_rng([seed, step]).random((groups, samples_per_cluster))
        members = _draw_different(keys, sizes[turns]) + starts[turns][:, None]
        return rows[members.ravel()], np.repeat(names[turns], samples_per_cluster)

    own = _share_of(batch_size, samples_per_cluster, share)
    return _batches(samples, choose, positives, len(sizes), groups, seed, first_step, own)


def neighbour_batches(
    samples: Any,
    neighbours: np.ndarray,
    *,
    batch_size: int = 128,
    seed: int = 0,
    first_step: int = 0,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Gives batches like those of `triplet_batches`, with near neighbours in place of clusters.

    Samples take turns, in an order of each pass's own, each with one of its neighbours; the two are
    a cluster of their own.

    Args:
        samples: as for `triplet_batches`.
        neighbours: int `[n, k]`: rows of the samples that are like each.
        batch_size: samples in a batch, even.
        seed: seed of all draws.
        first_step: where to begin.
        share: as for `triplet_batches`.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Huang, Loy, Tang 2016, table 5, the ablation "UTH".
    """
    if batch_size < 4 or batch_size % 2:
        raise ValueError(f"`batch_size` must be even, and at least 4. Received: {batch_size}")
    if neighbours.ndim != 2 or len(neighbours) != len(samples) or not neighbours.shape[1]:
        raise ValueError(
            "`neighbours` must be rows [n, k] of the n samples. Received: shape "
            f"{list(neighbours.shape)} for {len(samples)} samples"
        )
    pairs = batch_size // 2
    positives = np.arange(batch_size) ^ 1

    def choose(step: int, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = np.random.default_rng([seed, step]).integers(0, neighbours.shape[1], pairs)
        rows = np.stack([turns, neighbours[turns, places]], axis=1)
        return rows.ravel(), np.arange(batch_size, dtype=np.int32) // 2

    own = _share_of(batch_size, 2, share)
    return _batches(samples, choose, positives, len(samples), pairs, seed, first_step, own)


def _batches(
    samples: Any,
    choose: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    positives: np.ndarray,
    num_turns: int,
    groups: int,
    seed: int,
    first_step: int,
    own: slice,
) -> tf.data.Dataset:
    """Gives batches without end, of `groups` turns each.

    Args:
        samples: what is taken from.
        choose: from (step, turns int64 `[groups]`) to the rows of a batch and their clusters.
        positives: place of each sample's positive.
        num_turns: clusters or samples that take turns.
        groups: turns in a batch.
        seed: of the order of turns.
        first_step: where to begin.
        own: which samples of a batch are given.
    """
    kind = tf.as_dtype(np.asarray(samples[:1]).dtype)
    count = own.stop - own.start
    places = tf.constant(positives[own] - own.start, tf.int32)

    def draw(step: tf.Tensor) -> tf.Tensor:
        turns = step * groups + tf.range(groups, dtype=tf.int64)
        return step, shuffled_rows(turns, num_turns, seed)

    def gather(step: np.ndarray, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, ids = choose(int(step), turns)
        return np.asarray(samples[rows[own]]), ids[own]

    def load(step: tf.Tensor, turns: tf.Tensor) -> tuple[Any, Any]:
        # The table may be larger than memory: it is read in numpy, and only here.
        taken, ids = tf.numpy_function(gather, [step, turns], (kind, tf.int32), stateful=False)
        taken = tf.ensure_shape(taken, (count, *samples.shape[1:]))
        return taken, (tf.ensure_shape(ids, [count]), places)

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return steps.map(draw).map(load, num_parallel_calls=2, deterministic=True).prefetch(4)


def _share_of(batch_size: int, together: int, share: tuple[int, int]) -> slice:
    """Gives a device's samples of a batch; a sample and its positive are of one device."""
    which, of = share
    if not 0 <= which < of or batch_size % (of * together):
        raise ValueError(
            "`batch_size` must be a multiple of the number of devices times the samples of a "
            f"cluster, so that each device has whole clusters. Received: batch_size={batch_size}, "
            f"{of} devices, {together} samples of a cluster"
        )
    size = batch_size // of
    return slice(which * size, (which + 1) * size)


def count_usable(labels: np.ndarray, samples_per_cluster: int = 2) -> tuple[int, int]:
    """Gives (samples, clusters) that `triplet_batches` draws from.

    Args:
        labels: int `[n]`: the cluster of each sample, -1 for none.
        samples_per_cluster: clusters of fewer are left out.

    Raises:
        ValueError: if there are fewer than two such clusters.
    """
    sizes = _rows_by_cluster(labels, samples_per_cluster)[2]
    return int(sizes.sum()), len(sizes)


def _rows_by_cluster(
    labels: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gives the rows cluster by cluster, and where each begins, its size, and its name."""
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    names, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    is_usable = (names >= 0) & (sizes >= least)
    if is_usable.sum() < 2:
        raise ValueError(
            f"There must be at least 2 clusters of {least} samples or more, to tell apart: cluster "
            f"more samples, or less strictly. Received: {int((names >= 0).sum())} clusters, "
            f"{int(is_usable.sum())} of them large enough"
        )
    return order, starts[is_usable], sizes[is_usable], names[is_usable].astype(np.int32)


def _draw_different(keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Gives different numbers below each size, uniformly, int64 of the shape of `keys`.

    Args:
        keys: float `[groups, samples]`, uniform in [0, 1).
        sizes: int `[groups]`, at least `samples`.
    """
    drawn = np.zeros(keys.shape, np.int64)
    for place in range(keys.shape[1]):
        # One of those that are left, counted past the ones that are taken, in ascending order.
        found = np.floor(keys[:, place] * (sizes - place)).astype(np.int64)
        taken = np.sort(drawn[:, :place], axis=1)
        for other in taken.T:
            found += found >= other
        drawn[:, place] = found
    return drawn
