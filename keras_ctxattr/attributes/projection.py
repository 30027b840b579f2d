"""Where W begins: the discriminative binary codes of the clusters on the current features."""

from typing import Any

import numpy as np
from sklearn.svm import LinearSVC

from keras_ctxattr.attributes.axes import principal_axes

_SVM_ROUNDS = 2
_SWEEPS = 10
_MAX_AXES = 512  # principal axes that SVMs see: with thousands of features they take hours
_CHUNK = 8192  # rows read at a time


def initial_projection(
    vectors: Any, labels: np.ndarray, num_bits: int, *, C: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Gives the projection of predictable, discriminative binary codes.

    The bits are the signs of the first principal projections. Twice, a linear SVM learns each bit,
    all samples are encoded anew, and bits are flipped where that brings samples of a cluster
    together. Where there are more bits than features, the others begin as random projections. Of
    more than 512 features, the SVMs see as many principal axes.

    Args:
        vectors: centred features, float `[n, num_features]`; some thousand are enough, and all of
            them are looked at.
        labels: int `[n]`: clusters; samples in none (-1) are left out.
        num_bits: K.
        C: weight of a sample's loss in an SVM.
        seed: of the SVMs, and of projections past the number of features.

    Returns:
        float32 `[num_features, num_bits]`, columns of unit length; the SVMs' biases are dropped.

    Raises:
        ValueError: if fewer than two clusters have samples.

    Reference:
        Rastegari, Farhadi, Forsyth 2012, "Attribute discovery via predictable discriminative binary
        codes", section 3 and its released code; Huang, Loy, Tang 2016, section 3.2.
    """
    rows = np.flatnonzero(np.asarray(labels) >= 0)
    chosen = np.asarray(vectors[rows], np.float64)
    clusters = np.unique(np.asarray(labels)[rows], return_inverse=True)[1]
    if len(rows) == 0 or clusters.max() == 0:
        raise ValueError(
            "There must be samples of at least 2 clusters to tell apart. Received: "
            f"{len(rows)} samples of {len(np.unique(clusters))}"
        )
    basis = None
    if chosen.shape[1] > _MAX_AXES:
        basis = principal_axes(chosen, min(len(chosen), max(_MAX_AXES, num_bits)))
        chosen = chosen @ basis
    axes = principal_axes(chosen, num_bits)
    more = np.random.default_rng(seed).standard_normal((len(axes), num_bits - axes.shape[1]))
    axes = np.concatenate([axes, more], axis=1)
    signs = np.where(chosen @ axes > 0, 1.0, -1.0)
    weights = axes
    for _ in range(_SVM_ROUNDS):
        weights = _fit_svms(chosen, signs, weights, C, seed)
        signs = np.where(chosen @ weights > 0, 1.0, -1.0)
        signs = flip_bits(signs, clusters)
    if basis is not None:
        weights = basis @ weights
    lengths = np.linalg.norm(weights, axis=0)
    return (weights / np.maximum(lengths, 1e-12)).astype(np.float32)


def measure_features(vectors: Any) -> tuple[np.ndarray, float]:
    """Gives (the mean float64 `[num_features]`, the mean over the features' variances).

    Args:
        vectors: float `[n, num_features]`, an array or a table that is sliced like one.
    """
    count, num_features = len(vectors), vectors.shape[1]
    mean = np.zeros(num_features)
    for start in range(0, count, _CHUNK):
        mean += np.asarray(vectors[start : start + _CHUNK], np.float64).sum(axis=0) / count
    squares = 0.0
    for start in range(0, count, _CHUNK):
        chunk = np.asarray(vectors[start : start + _CHUNK], np.float64)
        squares += float(np.square(chunk - mean).sum())
    return mean, max(squares / count / num_features, np.finfo(np.float32).tiny)


def flip_bits(signs: np.ndarray, clusters: np.ndarray, num_sweeps: int = _SWEEPS) -> np.ndarray:
    """Flips bits by which a sample differs from its own cluster more than from the others.

    A sample's bit is flipped where the number of samples of its cluster that have the other bit
    exceeds lambda times that of the samples of other clusters, lambda being the mean size of a
    cluster over the number of samples.

    Args:
        signs: -1 and 1, float `[n, num_bits]`.
        clusters: int `[n]`, 0 to the number of clusters - 1, none empty.
        num_sweeps: how often all samples are looked at; it ends earlier where no bit is flipped.

    Returns:
        -1 and 1, float64 `[n, num_bits]`.
    """
    flipped = np.array(signs, np.float64)
    num_samples, sizes = len(flipped), np.bincount(clusters)
    balance = 1 / len(sizes)  # the mean size over the number of samples
    for _ in range(num_sweeps):
        own = np.zeros((len(sizes), flipped.shape[1]))
        np.add.at(own, clusters, flipped)
        total = own.sum(axis=0)
        # Of m signs that sum to s, (m - s b) / 2 differ from b.
        inside = (sizes[clusters, None] - own[clusters] * flipped) / 2
        outside = ((num_samples - sizes[clusters])[:, None] - (total - own[clusters]) * flipped) / 2
        wrong = inside > balance * outside
        # Flips of a sweep happen at once: a cluster of which most would turn stays as it is.
        few = np.zeros_like(own)
        np.add.at(few, clusters, wrong)
        wrong &= (few <= sizes[:, None] / 2)[clusters]
        if not wrong.any():
            break
        flipped[wrong] *= -1
    return flipped


def _fit_svms(
    vectors: np.ndarray, signs: np.ndarray, before: np.ndarray, C: float, seed: int
) -> np.ndarray:
    """Gives a linear SVM a bit; a bit that all samples share keeps its projection."""
    weights = before.copy()
    for bit in range(signs.shape[1]):
        if abs(signs[:, bit].sum()) < len(signs):
            svm = LinearSVC(C=C, dual=False, tol=1e-3, random_state=seed)
            weights[:, bit] = svm.fit(vectors, signs[:, bit]).coef_[0]
    return weights
