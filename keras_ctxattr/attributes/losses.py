"""The terms that attributes are learnt by, one function each; all in `keras.ops`."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops


def relaxed_codes(projections: Any, slope: float = 1.0) -> Any:
    """Gives codes between -1 and 1 that gradients pass through: 2 sigmoid(slope p) - 1.

    Args:
        projections: float32 `[batch, num_attributes]`, W^T f.
        slope: above 0; the larger, the nearer to a sign.

    Returns:
        float32 `[batch, num_attributes]`.

    Reference:
        Huang, Loy, Tang 2016, section 3.2.
    """
    return 2 * ops.sigmoid(slope * projections) - 1


def hamming_distances(codes: Any, others: Any) -> Any:
    """Gives (K - b_i . b_j) / 2: for codes of -1 and 1, in how many of K bits they differ.

    Args:
        codes: float32 `[n, K]` in [-1, 1].
        others: float32 `[m, K]`.

    Returns:
        float32 `[n, m]`, 0 to K.

    Reference:
        Huang, Loy, Tang 2016, section 3.2.
    """
    return (ops.shape(codes)[1] - ops.matmul(codes, ops.transpose(others))) / 2


def triplet_hinges(
    codes: Any,
    clusters: Any,
    positives: Any,
    margin: float | None = None,
    contrast_size: int | None = None,
    gather: Callable[[Any], Any] = lambda rows: rows,
    first: Any = 0,
) -> Any:
    """Gives each sample's hinge: margin + distance to its positive - distance to its negative.

    The negative is the hardest of the batch: the nearest sample of another cluster. With a
    `contrast_size`, it is the hardest of a part of the batch (ours): where many clusters show the
    same concept, the nearest of a whole batch is mostly one of them, and is pushed away.

    Args:
        codes: float32 `[batch, K]` in [-1, 1].
        clusters: int `[batch]`: the cluster of each.
        positives: int `[batch]`: where in the batch a sample of the same cluster is.
        margin: in bits; None for K / 2.
        contrast_size: the batch is divided into parts of so many neighbours, each with the
            negatives of its samples; None for the whole batch.
        gather: gives the rows of the whole batch, where these are one device's share of it.
        first: int `[]`: place of the first of these in the whole batch.

    Returns:
        float32 `[batch]`, at least 0; 0 where the batch, or the part, has no other cluster.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, equation 2.
    """
    rho = codes.shape[1] / 2 if margin is None else margin
    near = ops.sum(codes * ops.take(codes, positives, axis=0), axis=1)
    near = (codes.shape[1] - near) / 2
    others = gather(clusters)
    distances = hamming_distances(codes, gather(codes))  # [own, any]
    is_other = ops.not_equal(clusters[:, None], others[None, :])
    if contrast_size is not None:
        parts = ops.arange(ops.shape(others)[0]) // contrast_size
        own = (first + ops.arange(ops.shape(codes)[0])) // contrast_size
        is_other = ops.logical_and(is_other, ops.equal(own[:, None], parts[None, :]))
    far = ops.min(ops.where(is_other, distances, math.inf), axis=1)
    has_other = ops.any(is_other, axis=1)
    # Infinity must not reach the subtraction: its gradient would be NaN.
    hinges = ops.relu(rho + near - ops.where(has_other, far, 0.0))
    return ops.where(has_other, hinges, 0.0)


def projected_variance(projections: Any) -> Any:
    """Gives the balance term: the mean square of the projections of centred features.

    The paper prints it as something to be minimised, and says that it maximises the variance; it is
    subtracted.

    Args:
        projections: float32 `[batch, K]`.

    Returns:
        float32 `[]`, a mean per sample and bit.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, equation 2, second term.
    """
    return ops.mean(ops.square(projections))


def dependence(weights: Any) -> Any:
    """Gives how far the bits' projections are from orthonormal: |W^T W - I|^2.

    Args:
        weights: float32 `[num_features, K]`.

    Returns:
        float32 `[]`, at least 0.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, equation 2, third term, which prints |W W^T - I|^2: that
        cannot reach 0 for more features than bits.
    """
    gram = ops.matmul(ops.transpose(weights), weights)
    return ops.sum(ops.square(gram - ops.eye(weights.shape[1], dtype=gram.dtype)))


def literal_dependence(weights: Any) -> Any:
    """Gives |W W^T - I|^2 as printed; at least num_features - K.

    Args:
        weights: float32 `[num_features, K]`.
    """
    gram = ops.matmul(weights, ops.transpose(weights))
    return ops.sum(ops.square(gram - ops.eye(weights.shape[0], dtype=gram.dtype)))


def squared_norm(weights: Any) -> Any:
    """Gives |W|^2, the fourth term: float32 `[]`.

    Args:
        weights: float32 `[num_features, K]`.
    """
    return ops.sum(ops.square(weights))
