"""Principal axes, with a sign of their own."""

import numpy as np


def principal_axes(vectors: np.ndarray, count: int) -> np.ndarray:
    """Gives the directions of most variance, at most as many as there are features.

    An axis has no sign; here its largest entry is positive.

    Args:
        vectors: centred features, float64 `[n, num_features]`.
        count: how many.

    Returns:
        float64 `[num_features, min(count, num_features)]`, orthonormal, the most variance first.
    """
    axes = np.linalg.eigh(vectors.T @ vectors / len(vectors))[1][:, ::-1][:, :count]
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(axes.shape[1])])
