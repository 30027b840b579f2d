"""k-means of rows that may be larger than memory: of all at once, or in mini-batches."""

from collections.abc import Iterator

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus

from keras_ctxattr.clustering.rows import CHUNK, Rows

SEEDINGS = ("auto", "full", "minibatch")

# k-means++ draws every centre in turn; past so many its start takes longer than Lloyd's iterations.
_MAX_PLUS_PLUS = 200
_MAX_ITERATIONS = 50
_NUM_SWEEPS = 3  # over all rows, in mini-batches,
_ROWS_PER_CENTRE = 1000  # unless centres have seen so many rows each before: they hardly move then
# Rows that lie side by side enter a mini-batch together: a disk reads them at once. A batch has
# over a hundred such blocks from anywhere, so neighbours' likeness does not matter.
_BLOCK = 64


def check_seeding(seeding: str) -> None:
    """Refuses what is not in `SEEDINGS`."""
    if seeding not in SEEDINGS:
        raise ValueError(f"`seeding` must be one of {', '.join(SEEDINGS)}. Received: {seeding!r}")


def choose_seeding(seeding: str, num_rows: int, num_features: int, memory_bytes: int) -> str:
    """Gives `"full"` or `"minibatch"`; for `"auto"` the former where the rows fit into memory.

    Args:
        seeding: one of `SEEDINGS`.
        num_rows: samples that are clustered.
        num_features: of each.
        memory_bytes: what the samples, as float32, may take.

    Raises:
        ValueError: if there is no such seeding.
    """
    check_seeding(seeding)
    if seeding != "auto":
        return seeding
    return "full" if 4 * num_rows * num_features <= memory_bytes else "minibatch"


def run_kmeans(
    rows: Rows,
    num_clusters: int,
    random_state: int,
    memory_bytes: int,
    seeding: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Gives (label int64, distance to the centre float32) of each row, by scikit-learn's k-means.

    Args:
        rows: the samples, at least `num_clusters`.
        num_clusters: number of centres.
        random_state: seed.
        memory_bytes: what the samples may take, see `choose_seeding`.
        seeding: `"full"`: Lloyd's iterations on all samples, in memory. `"minibatch"`: as
            `find_centres_in_batches` does. `"auto"`: by `choose_seeding`.

    Returns:
        Both `[rows]`. They are a function of the rows in their order, and of the seed.
    """
    if choose_seeding(seeding, *rows.shape, memory_bytes) == "full":
        init = "k-means++" if num_clusters <= _MAX_PLUS_PLUS else "random"
        # They are loaded for k-means alone, which may centre them in place.
        kmeans = KMeans(
            num_clusters,
            init=init,
            n_init=1,
            max_iter=_MAX_ITERATIONS,
            random_state=random_state,
            copy_x=False,
        ).fit(rows.load())
    else:
        kmeans = find_centres_in_batches(rows, num_clusters, random_state)
    return _assign(rows, kmeans)


def find_centres_in_batches(
    rows: Rows, num_clusters: int, random_state: int, num_sweeps: int = _NUM_SWEEPS
) -> MiniBatchKMeans:
    """Fits centres to mini-batches of rows, in an order that the seed draws.

    A batch has as many rows as are read at a time, or as there are centres. Centres start as rows
    drawn from all, or up to 200 of them by k-means++ on such a draw.

    Args:
        rows: the samples, at least `num_clusters`.
        num_clusters: number of centres.
        random_state: seed of the start and of the order.
        num_sweeps: how often all rows are read at most; fewer where there are over 1 000 a centre.

    Reference:
        Sculley 2010, "Web-scale k-means clustering".
    """
    generator = np.random.default_rng(random_state)
    kmeans = MiniBatchKMeans(
        num_clusters,
        init=_draw_centres(rows, num_clusters, generator),
        n_init=1,
        random_state=random_state,
        compute_labels=False,
    )
    batch_size = max(CHUNK, num_clusters)
    wanted = min(num_sweeps * len(rows), _ROWS_PER_CENTRE * num_clusters)
    seen = 0
    while seen < wanted:
        for places in _draw_batches(len(rows), batch_size, generator):
            kmeans.partial_fit(rows[places])
            seen += len(places)
            if seen >= wanted:
                break
    return kmeans


def _draw_centres(rows: Rows, num_clusters: int, generator: np.random.Generator) -> np.ndarray:
    if num_clusters > _MAX_PLUS_PLUS:
        return rows[np.sort(generator.choice(len(rows), num_clusters, replace=False))]
    sample = rows[np.sort(generator.permutation(len(rows))[:CHUNK])]
    return kmeans_plusplus(sample, num_clusters, random_state=int(generator.integers(2**31)))[0]


def _draw_batches(
    num_rows: int, batch_size: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Gives places, ascending, of at least `batch_size` rows a batch, or all; each place once."""
    order = generator.permutation(-(-num_rows // _BLOCK))
    count = -(-batch_size // _BLOCK) + 1  # the last block may be a short one
    for start in range(0, len(order), count):
        blocks = np.sort(order[start : start + count])
        places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        yield places[places < num_rows]


def _assign(rows: Rows, kmeans: KMeans | MiniBatchKMeans) -> tuple[np.ndarray, np.ndarray]:
    """Gives (the nearest centre, the distance to it) of each row, reading a chunk at a time."""
    labels = np.empty(len(rows), np.int64)
    distances = np.empty(len(rows), np.float32)
    for start, chunk in rows.read():
        found = kmeans.predict(chunk)
        labels[start : start + len(chunk)] = found
        offsets = chunk - kmeans.cluster_centers_[found]
        distances[start : start + len(chunk)] = np.linalg.norm(offsets, axis=1)
    return labels, distances
