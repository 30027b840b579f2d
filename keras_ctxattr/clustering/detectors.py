"""The classifiers of clusters: trained on members, fired on other samples."""

from typing import Any

import numpy as np

from keras_ctxattr.clustering.members import Members, best_rows, flatten
from keras_ctxattr.clustering.rows import CHUNK, Rows
from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.clustering.svm.solver import decide

COLUMNS = 8192  # classifiers whose scores of a chunk of rows are held at a time


def train_detectors(members: Members, rows: Rows, world: Rows, **solver: Any) -> np.ndarray:
    """Gives one linear classifier a cluster, its members against the natural world.

    Args:
        members: places of each cluster's members in `rows`.
        rows: discovery samples.
        world: negatives.
        **solver: arguments of `fit_linear_svms`.

    Returns:
        Float32 `[num_clusters, num_features + 1]`, on rows as they are read.
    """
    places, ids = flatten(members)
    return fit_linear_svms(rows.select(places), ids, world, **solver).weights


def train_comparable_detectors(
    members: Members, rows: Rows, world: Rows, **solver: Any
) -> np.ndarray:
    """Gives one classifier a cluster whose scores can be compared with any other's.

    A classifier of many members scores higher than one of few, everywhere. So each is divided by
    their number, 0 is put midway between its mean scores of the members and of the natural world,
    and all are divided by the same number, so that members score 1 in the mean over the clusters.
    For small `C` the highest score is then that of the nearest mean.

    Args:
        members: places of each cluster's members in `rows`.
        rows: discovery samples.
        world: negatives.
        **solver: arguments of `fit_linear_svms`.

    Returns:
        Float32 `[num_clusters, num_features + 1]`, on rows as they are read.
    """
    places, ids = flatten(members)
    vectors = rows.select(places)
    weights = fit_linear_svms(vectors, ids, world, **solver).weights.astype(np.float64)
    sizes = np.bincount(ids, minlength=len(members))
    weights /= sizes[:, None]
    inside = np.bincount(ids, own_scores(weights, vectors, ids), len(members)) / sizes
    total = sum((chunk.sum(axis=0, dtype=np.float64) for _, chunk in world.read()), np.zeros(1))
    outside = weights[:, :-1] @ (total / len(world)) + weights[:, -1]
    weights[:, -1] -= (inside + outside) / 2
    weights /= np.mean((inside - outside) / 2)
    return weights.astype(np.float32)


def own_scores(weights: np.ndarray, vectors: Any, ids: np.ndarray) -> np.ndarray:
    """Gives each sample's score by its own cluster's classifier.

    Args:
        weights: float `[num_clusters, num_features + 1]`.
        vectors: float32 `[n, num_features]`, array or table.
        ids: int `[n]`: the cluster of each.

    Returns:
        Float `[n]`, of the dtype of `weights`.
    """
    scores = np.empty(len(ids), weights.dtype)
    for start in range(0, len(ids), CHUNK):  # a copy of the weights a sample
        part = slice(start, start + CHUNK)
        own = weights[ids[part]]
        scores[part] = np.einsum("nd,nd->n", vectors[part], own[:, :-1]) + own[:, -1]
    return scores


def fire(weights: np.ndarray, rows: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the highest-scoring rows of each classifier, reading a chunk at a time.

    Args:
        weights: float32 `[num_clusters, num_features + 1]`.
        rows: what they fire on.
        count: how many a classifier.

    Returns:
        (places in `rows` int64, scores float32), both `[at most count, num_clusters]`, best first.
    """
    places = np.zeros((0, len(weights)), np.int64)
    scores = np.zeros((0, len(weights)), np.float32)
    for start, chunk in rows.read():
        best, found = _best_of_chunk(weights, chunk, count)
        places = np.concatenate([places, best + start])
        scores = np.concatenate([scores, found])
        # Places only grow, so a stable sort leaves the lower of two equal ones first.
        order = np.argsort(-scores, axis=0, kind="stable")[:count]
        places = np.take_along_axis(places, order, axis=0)
        scores = np.take_along_axis(scores, order, axis=0)
    return places, scores


def _best_of_chunk(
    weights: np.ndarray, chunk: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives (places in the chunk, scores) of each classifier's highest, some classifiers a time."""
    places, scores = [], []
    for start in range(0, len(weights), COLUMNS):
        found = decide(weights[start : start + COLUMNS], chunk)
        places.append(best_rows(found, count))
        scores.append(np.take_along_axis(found, places[-1], axis=0))
    return np.concatenate(places, axis=1), np.concatenate(scores, axis=1)


def best_cluster(weights: np.ndarray, table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Gives (the classifier of the highest score for each row, that score).

    Args:
        weights: float32 `[num_clusters, num_features + 1]`.
        table: float `[n, num_features]`, array or table.

    Returns:
        int32 `[n]` and float32 `[n]`; -1 and minus infinity where there is no classifier.
    """
    labels, highest = np.full(len(table), -1, np.int32), np.full(len(table), -np.inf, np.float32)
    for start in range(0, len(table) if len(weights) else 0, CHUNK):
        chunk = np.asarray(table[start : start + CHUNK], np.float32)
        part = slice(start, start + len(chunk))
        for first in range(0, len(weights), COLUMNS):
            scores = decide(weights[first : first + COLUMNS], chunk)
            best = scores.argmax(axis=1)
            found = scores[np.arange(len(best)), best]
            # Of equal scores the first counts, and the first of all however low it is.
            is_higher = (found > highest[part]) | (labels[part] < 0)
            labels[part] = np.where(is_higher, first + best, labels[part])
            highest[part] = np.where(is_higher, found, highest[part])
    return labels, highest


def reproducibility(first: np.ndarray, second: np.ndarray, rows: Rows, count: int) -> float:
    """Gives the share of rows on which two classifiers of each cluster agree.

    Args:
        first: float32 `[num_clusters, num_features + 1]`, trained on one half.
        second: the same clusters, trained on the other.
        rows: samples that neither has seen.
        count: highest scores of each that are compared.

    Returns:
        Mean over the clusters of the share of one's highest that are among the other's.
    """
    one, other = fire(first, rows, count)[0], fire(second, rows, count)[0]
    shared = [np.isin(a, b).mean() for a, b in zip(one.T, other.T, strict=True)]
    return float(np.mean(shared))
