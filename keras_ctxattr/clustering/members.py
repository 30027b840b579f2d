"""Which samples are the members of which cluster, and the k-means that starts it all."""

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from keras_ctxattr.clustering.rows import CHUNK, Rows

Members = list[np.ndarray]
"""For each cluster the rows of its members, int64 `[members]`, best first."""

# k-means++ draws every centre in turn; past so many its start takes longer than Lloyd's iterations.
_MAX_PLUS_PLUS = 200
_MAX_ITERATIONS = 50
_NUM_SWEEPS = 3  # over samples that do not fit into memory


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
) -> Members:
    """Gives k-means clusters of the rows: small ones dropped, the others cut to their centre.

    Args:
        rows: the samples.
        samples_per_cluster: rows divided by this gives the number of centres.
        min_size: clusters of fewer members are dropped.
        max_size: members nearest to the centre that are kept.
        random_state: seed.
        memory_bytes: samples that take more are clustered in mini-batches.

    Reference:
        Singh, Gupta, Efros 2012, section 3, and its released code for the numbers.
    """
    num_centres = max(1, len(rows) // samples_per_cluster)
    labels, distances = run_kmeans(rows, num_centres, random_state, memory_bytes)
    nearest_first = np.lexsort((distances, labels))
    bounds = np.cumsum(np.bincount(labels, minlength=num_centres))[:-1]
    clusters = np.split(nearest_first, bounds)
    return [chosen[:max_size] for chosen in clusters if len(chosen) >= min_size]


def run_kmeans(
    rows: Rows, num_clusters: int, random_state: int, memory_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives (label, distance to the centre) of each row, by scikit-learn's k-means."""
    fits = 4 * rows.shape[0] * rows.shape[1] <= memory_bytes
    options = {
        "n_clusters": num_clusters,
        "init": "k-means++" if num_clusters <= _MAX_PLUS_PLUS else "random",
        "n_init": 1,
        "random_state": random_state,
    }
    if fits:
        kmeans = KMeans(max_iter=_MAX_ITERATIONS, **options).fit(rows[:])
    else:
        num_batches = max(1, len(rows) // max(2 * num_clusters, CHUNK))
        kmeans = MiniBatchKMeans(**options)
        for _ in range(_NUM_SWEEPS):
            for part in np.array_split(np.arange(len(rows)), num_batches):
                kmeans.partial_fit(rows[part])
    labels = np.empty(len(rows), np.int64)
    distances = np.empty(len(rows), np.float32)
    for start, chunk in rows.read():
        found = kmeans.predict(chunk)
        labels[start : start + len(chunk)] = found
        offsets = chunk - kmeans.cluster_centers_[found]
        distances[start : start + len(chunk)] = np.linalg.norm(offsets, axis=1)
    return labels, distances


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
    count = min(count, len(scores))
    found = np.argpartition(-scores, count - 1, axis=0)[:count]
    # Of equal scores the lower row comes first, so that the result does not depend on the order.
    found = np.sort(found, axis=0)
    order = np.argsort(-np.take_along_axis(scores, found, axis=0), axis=0, kind="stable")
    return np.take_along_axis(found, order, axis=0)
