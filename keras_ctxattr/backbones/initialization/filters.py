"""Filters from samples of what they will see."""

from collections.abc import Callable

import numpy as np
import scipy.linalg
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

# Added to the variance of a principal direction before its root divides, as the authors do: to the
# sum over the samples, not the mean, which keeps it negligible whatever the scale of the inputs.
_SMALLEST = 1e-3
# Directions with less than this share of the strongest one's variance are rounding errors.
_NOISE = 1e-7
_MAX_SIDE = 4096  # of a matrix whose eigenvectors are sought: ten seconds on two cores
_MAX_DIRECTIONS = 1024
_FILTERS_FOR_THREADS = 256
_PRECISE_SIDE = 1024  # up to here double precision costs nothing


def find_filters(
    method: str, samples: np.ndarray, num_filters: int, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Gives linear filters, at any scale.

    Samples that are fewer than the filters, or all equal, say nothing about directions: then the
    filters are Gaussian, whatever the method.

    Args:
        method: one of `METHODS`.
        samples: float32 `[samples, dims]`.
        num_filters: how many filters.
        generator: source of the draws.

    Returns:
        (filters, float64 or float32 `[dims, num_filters]`; the method they are from).
    """
    if len(samples) < max(num_filters, 2) or not np.ptp(samples, axis=0).any():
        method = "gaussian"
    return METHODS[method](samples, num_filters, generator), method


def gaussian_filters(
    samples: np.ndarray, num_filters: int, generator: np.random.Generator
) -> np.ndarray:
    """Gives filters of independent standard normal values."""
    return generator.normal(size=(samples.shape[-1], num_filters))


def pca_filters(
    samples: np.ndarray, num_filters: int, generator: np.random.Generator
) -> np.ndarray:
    """Gives the principal directions, strongest first.

    Where there are more filters than directions (the samples' dimensions, or 1024), the rest are
    Gaussian combinations of all directions at unit variance.
    """
    directions = whitening(samples - samples.mean(axis=0), num_filters, generator)
    missing = num_filters - directions.shape[1]
    mixed = directions @ generator.normal(size=(directions.shape[1], missing))
    return np.hstack([directions, mixed])


def kmeans_filters(
    samples: np.ndarray, num_filters: int, generator: np.random.Generator
) -> np.ndarray:
    """Gives filters whose responses are dot products with k-means centres of whitened samples.

    With w the whitening and c a centre, a filter is wc: it responds (x - mean) w . c, up to a
    shift that the bias takes.
    """
    centred = samples - samples.mean(axis=0)
    directions = whitening(centred, num_filters, generator)
    whitened = (centred @ directions).astype(np.float32)
    lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
    clustering = MiniBatchKMeans(
        num_filters,
        # Among directions of unit length k-means++ finds nothing better than random samples, and
        # takes forty times as long.
        init="random",
        n_init=1,
        # Ten samples a centre, as the authors; for few centres such steps would only be overhead.
        batch_size=max(10 * num_filters, 1024),
        random_state=int(generator.integers(2**31)),
    )
    # Steps for few centres are so short that threads mostly wait for each other.
    threads = 1 if num_filters < _FILTERS_FOR_THREADS else None
    with threadpool_limits(threads, user_api="openmp"):
        clustering.fit(whitened / np.maximum(lengths, np.finfo(np.float32).tiny))
    return directions @ clustering.cluster_centers_.T


METHODS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "kmeans": kmeans_filters,
    "pca": pca_filters,
    "gaussian": gaussian_filters,
}


def whitening(centred: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Gives the strongest principal directions, each divided by sqrt(variance + 1e-3).

    As the authors do, only as many as there are filters: white noise is most of the rest.

    Args:
        centred: float32 `[samples, dims]` of mean 0.
        count: number of directions wanted; at most 1024 and the rank of the samples come.
        generator: draws the 4096 samples that directions of more dimensions than that come from.

    Returns:
        float `[dims, directions]`, strongest first.
    """
    variances, directions = _principal_directions(centred, min(count, _MAX_DIRECTIONS), generator)
    kept = variances > _NOISE * variances.max()
    return directions[:, kept] / np.sqrt(variances[kept] + _SMALLEST)


def _principal_directions(
    centred: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Gives (sums of squares over all samples, `[count]`; unit vectors, `[dims, count]`)."""
    num_samples, dims = centred.shape
    if dims <= min(num_samples, _MAX_SIDE):
        return _strongest(centred.T @ centred, count)
    if num_samples > _MAX_SIDE:
        centred = centred[generator.choice(num_samples, _MAX_SIDE, replace=False)]
    # The samples' products with each other have the same eigenvalues, and are fewer.
    variances, mixtures = _strongest(centred @ centred.T, count)
    kept = variances > _NOISE * variances.max()
    directions = centred.T @ (mixtures[:, kept] / np.sqrt(variances[kept]))
    return variances[kept] * num_samples / len(centred), directions


def _strongest(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the largest eigenvalues of a symmetric matrix and their vectors, largest first."""
    side = len(matrix)
    if side <= _PRECISE_SIDE:
        matrix = matrix.astype(np.float64)
    values, vectors = scipy.linalg.eigh(
        matrix, subset_by_index=(max(side - count, 0), side - 1), overwrite_a=True
    )
    return values[::-1], vectors[:, ::-1]
