"""Which samples are the members of which cluster, and the k-means that starts it all."""

import numpy as np

from keras_ctxattr.clustering.rows import Rows
from keras_ctxattr.clustering.seeding import run_kmeans

Members = list[np.ndarray]
"""For each cluster the rows of its members, int64 `[members]`, best first."""

BEST_COLUMNS = 512  # whose highest rows are looked for at a time


def flatten(members: Members) -> tuple[np.ndarray, np.ndarray]:
    """Gives (rows, cluster of each row), int64 `[all members]`."""
    rows = np.concatenate(members) if members else np.zeros(0, np.int64)
    sizes = [len(one) for one in members]
    return rows.astype(np.int64), np.repeat(np.arange(len(members)), sizes)


def seed_clusters(
    rows: Rows,
    *,
    samples_per_cluster: int,
    min_size: int,
    max_size: int,
    random_state: int,
    memory_bytes: int,
    seeding: str = "auto",
) -> Members:
    """Gives k-means clusters of the rows: small ones dropped, the others cut to their centre.

    Args:
        rows: the samples.
        samples_per_cluster: rows divided by this gives the number of centres.
        min_size: clusters of fewer members are dropped.
        max_size: members nearest to the centre that are kept.
        random_state: seed.
        memory_bytes: what samples may take, see `choose_seeding`.
        seeding: `"full"`, `"minibatch"` or `"auto"`, see `run_kmeans`.

    Reference:
        Singh, Gupta, Efros 2012, section 3, and its released code for the numbers.
    """
    num_centres = max(1, len(rows) // samples_per_cluster)
    labels, distances = run_kmeans(rows, num_centres, random_state, memory_bytes, seeding)
    nearest_first = np.lexsort((distances, labels))
    bounds = np.cumsum(np.bincount(labels, minlength=num_centres))[:-1]
    clusters = np.split(nearest_first, bounds)
    return [chosen[:max_size] for chosen in clusters if len(chosen) >= min_size]


def split_in_halves(
    groups: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Divides rows at random into two halves; rows of one group stay together.

    Args:
        groups: int `[rows]`: the group of each row, such as the image that it was cut from.
        generator: where the draws come from.

    Returns:
        The rows of each half, ascending.
    """
    names, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = generator.permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    is_first = np.empty(len(names), bool)
    is_first[order] = before < len(groups) / 2
    chosen = is_first[places]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def best_rows(scores: np.ndarray, count: int) -> np.ndarray:
    """Gives the rows of each column's highest scores, best first, int64 `[count, columns]`."""
    parts = [
        _best_rows(scores[:, start : start + BEST_COLUMNS], min(count, len(scores)))
        for start in range(0, max(1, scores.shape[1]), BEST_COLUMNS)
    ]
    return np.concatenate(parts, axis=1)


def _best_rows(scores: np.ndarray, count: int) -> np.ndarray:
    found = np.argpartition(-scores, count - 1, axis=0)[:count]
    # Of equal scores the lower row comes first, so that the result does not depend on the order.
    found = np.sort(found, axis=0)
    order = np.argsort(-np.take_along_axis(scores, found, axis=0), axis=0, kind="stable")
    return np.take_along_axis(found, order, axis=0)
