"""How well clusters agree with labels that were not used to find them.

Purity depends on the sizes of the clusters and on how many samples are in one: compare only at
equal sizes and coverage (`cut_to_sizes`), and beside random clusters of those sizes.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import normalized_mutual_info_score


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    """Gives the share of the clustered samples that are of their cluster's most frequent class.

    Args:
        labels: int `[n]`: cluster of each sample, -1 for none.
        truth: int `[n]`: class of each sample, 0 or more.

    Returns:
        A fraction; NaN where no sample is in a cluster.

    Example:
        >>> purity(np.array([0, 0, 0, 1, 1, -1]), np.array([2, 2, 1, 0, 0, 1]))
        0.8
    """
    labels, truth = _check(labels, truth)
    chosen = labels >= 0
    if not chosen.any():
        return float("nan")
    counts = np.zeros((labels.max() + 1, truth.max() + 1), np.int64)
    np.add.at(counts, (labels[chosen], truth[chosen]), 1)
    return float(counts.max(axis=1).sum() / chosen.sum())


def coverage(labels: np.ndarray) -> float:
    """Gives the share of all samples that are in a cluster.

    Args:
        labels: int `[n]`: cluster of each sample, -1 for none.
    """
    return float(np.mean(np.asarray(labels) >= 0)) if len(labels) else float("nan")


def nmi(labels: np.ndarray, truth: np.ndarray) -> float:
    """Gives the normalised mutual information of clusters and classes, over clustered samples.

    Args:
        labels: int `[n]`: cluster of each sample, -1 for none.
        truth: int `[n]`: class of each sample.

    Returns:
        A fraction (arithmetic normalisation); NaN where no sample is in a cluster.
    """
    labels, truth = _check(labels, truth)
    chosen = labels >= 0
    if not chosen.any():
        return float("nan")
    return float(normalized_mutual_info_score(truth[chosen], labels[chosen]))


def cluster_sizes(labels: np.ndarray) -> np.ndarray:
    """Gives the sizes of the clusters that have members, descending, int64.

    Args:
        labels: int `[n]`: cluster of each sample, -1 for none.
    """
    labels = np.asarray(labels)
    sizes = np.bincount(labels[labels >= 0])
    return np.sort(sizes[sizes > 0])[::-1]


def cut_to_sizes(members: Sequence[np.ndarray], sizes: np.ndarray, num_samples: int) -> np.ndarray:
    """Cuts ranked clusters to given sizes, so that their purity can be compared.

    The largest cluster is cut to the largest size, and so on. What a cluster is too small for is
    taken from those that have members left, so that the coverage is the same.

    Args:
        members: for each cluster its rows, int, the most typical first.
        sizes: int `[k]`, at most as many as there are clusters.
        num_samples: number of all samples.

    Returns:
        int64 `[num_samples]`: cluster of each sample, by rank of size; -1 for none.

    Raises:
        ValueError: if there are fewer clusters than sizes, or fewer members than their sum.
    """
    wanted = np.sort(np.asarray(sizes, np.int64))[::-1]
    ranked = sorted(members, key=len, reverse=True)
    if len(ranked) < len(wanted) or sum(len(rows) for rows in ranked) < wanted.sum():
        raise ValueError(
            "There must be at least as many clusters and members as are wanted. Received: "
            f"{len(ranked)} clusters of {sum(len(rows) for rows in ranked)} for {len(wanted)} of "
            f"{wanted.sum()}"
        )
    taken = np.zeros(len(ranked), np.int64)
    taken[: len(wanted)] = np.minimum(wanted, [len(rows) for rows in ranked[: len(wanted)]])
    missing = int(wanted.sum() - taken.sum())
    while missing:
        # One member more from each cluster that has one left, the largest first.
        left = [number for number, rows in enumerate(ranked) if taken[number] < len(rows)]
        taken[left[:missing]] += 1
        missing -= min(missing, len(left))
    labels = np.full(num_samples, -1, np.int64)
    for number, rows in enumerate(ranked):
        labels[rows[: taken[number]]] = number
    return labels


def random_clusters(sizes: np.ndarray, num_samples: int, seed: int = 0) -> np.ndarray:
    """Gives random clusters of given sizes: what purity says of no clustering at all.

    Args:
        sizes: int `[k]`.
        num_samples: number of all samples.
        seed: of the draw.

    Returns:
        int64 `[num_samples]`: cluster of each sample, -1 for none.
    """
    rows = np.random.default_rng(seed).permutation(num_samples)[: int(np.sum(sizes))]
    labels = np.full(num_samples, -1, np.int64)
    labels[rows] = np.repeat(np.arange(len(sizes)), sizes)
    return labels


def _check(labels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, truth = np.asarray(labels), np.asarray(truth)
    if labels.ndim != 1 or labels.shape != truth.shape or len(labels) == 0 or truth.min() < 0:
        raise ValueError(
            "`labels` and `truth` must be equally long, one a sample, and classes 0 or more. "
            f"Received: shapes {list(labels.shape)} and {list(truth.shape)}"
        )
    return labels, truth
