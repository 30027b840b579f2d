"""Merging of clusters that fire on each other's members."""

from collections.abc import Callable

import numpy as np

from keras_ctxattr.clustering.members import Members, flatten

_MAX_PASSES = 20


def overlaps(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Gives how far each two clusters fire on each other's members.

    A classifier of a few members against thousands scores below 0 even on those few, unless `C` is
    so large that it singles them out; so it fires where it scores as high as on the lowest of its
    own members (ours; the paper has 0, which then merges nothing).

    Args:
        scores: float `[members, clusters]`: each member by each cluster's classifier.
        ids: int `[members]`: the cluster of each member.

    Returns:
        float64 `[clusters, clusters]`, symmetric with a diagonal of 0: the mean of the two shares
        of members on which the other's classifier fires.

    Reference:
        Huang, Loy, Tang 2016, section 3.1.
    """
    num_clusters = scores.shape[1]
    lowest = lowest_scores(scores[np.arange(len(ids)), ids], ids, num_clusters)
    fires = np.zeros((num_clusters, num_clusters))
    np.add.at(fires, ids, scores >= lowest)
    shares = fires / np.maximum(np.bincount(ids, minlength=num_clusters), 1)[:, None]
    means = (shares + shares.T) / 2
    np.fill_diagonal(means, 0)
    return means


def lowest_scores(scores: np.ndarray, ids: np.ndarray, num_clusters: int) -> np.ndarray:
    """Gives the lowest score of each cluster's members, float64; infinity where there are none."""
    lowest = np.full(num_clusters, np.inf)
    np.minimum.at(lowest, ids, scores)
    return lowest


def choose_pairs(overlap: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Gives the pairs that overlap most, each cluster in one pair at most, greedily.

    Args:
        overlap: float `[clusters, clusters]`, symmetric.
        threshold: what a pair must exceed.

    Returns:
        Pairs (lower, higher), the most overlapping first; of equals the lower numbers first.
    """
    first, second = np.nonzero(np.triu(overlap, 1) > threshold)
    order = np.lexsort((second, first, -overlap[first, second]))
    taken: set[int] = set()
    pairs = []
    for one, other in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if one not in taken and other not in taken:
            pairs.append((one, other))
            taken |= {one, other}
    return pairs


def merge_clusters(
    members: Members,
    score_members: Callable[[Members], np.ndarray],
    threshold: float,
) -> Members:
    """Merges the most overlapping clusters until no pair exceeds the threshold.

    All classifiers are trained anew after a pass over disjoint pairs, most overlapping first: as
    greedy as one pair at a time, for fewer trainings.

    Args:
        members: the clusters.
        score_members: from clusters to float `[all members, clusters]`: the scores of all members
            (in the order of `flatten`) by classifiers of each cluster.
        threshold: overlap in [0, 1] that a pair must exceed to be merged.

    Returns:
        The merged clusters, each with the members of its parts, without repetition.
    """
    merged = [np.asarray(rows) for rows in members]
    for _ in range(_MAX_PASSES):
        if len(merged) < 2:
            break
        pairs = choose_pairs(overlaps(score_members(merged), flatten(merged)[1]), threshold)
        if not pairs:
            break
        for one, other in pairs:
            merged[one] = _union(merged[one], merged[other])
        absorbed = {other for _, other in pairs}
        merged = [rows for number, rows in enumerate(merged) if number not in absorbed]
    return merged


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first, second[~np.isin(second, first)]])
