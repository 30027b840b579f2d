"""Principal axes, with a sign of their own."""

import numpy as np
from scipy.linalg import eigh


def principal_axes(vectors: np.ndarray, count: int) -> np.ndarray:
    """Gives the directions of most variance, at most as many as there are features.

    An axis has no sign; here its largest entry is positive.

    Args:
        vectors: centred features, float64 `[n, num_features]`.
        count: how many.

    Returns:
        float64 `[num_features, min(count, num_features)]`, orthonormal, the most variance first.
    """
    num_samples, num_features = vectors.shape
    count = min(count, num_features)
    if count <= num_samples < num_features:
        axes = np.linalg.svd(vectors, full_matrices=False)[2][:count].T
    else:
        chosen = [num_features - count, num_features - 1]
        axes = eigh(vectors.T @ vectors / num_samples, subset_by_index=chosen)[1][:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(axes.shape[1])])
