"""What `fit_linear_svms` refuses, each in one line."""

from typing import Any

import numpy as np

from keras_ctxattr.clustering.svm.negatives import TILE_ROWS


def check_problem(
    positives: Any, cluster_ids: Any, negatives: Any, C: float, tolerance: float
) -> tuple[Any, np.ndarray]:
    """Gives positives, as an array or the table that they are, and cluster ids as an array."""
    if not (C > 0 and tolerance > 0):
        raise ValueError(
            f"`C` and `tolerance` must be above 0. Received: C={C}, tolerance={tolerance}"
        )
    is_table = hasattr(positives, "shape") and not hasattr(positives, "__array__")
    vectors = positives if is_table else np.asarray(positives, np.float32)
    ids = np.asarray(cluster_ids)
    if len(vectors.shape) != 2 or len(vectors) == 0 or ids.shape != (len(vectors),):
        raise ValueError(
            "`positives` must be [num_positives, num_features] with one of `cluster_ids` each, and "
            f"at least one. Received: shapes {vectors.shape} and {ids.shape}"
        )
    if len(negatives.shape) != 2 or not len(negatives) or negatives.shape[1] != vectors.shape[1]:
        raise ValueError(
            "`negatives` must be [num_negatives, num_features] with the features of `positives`, "
            f"and at least one. Received: {tuple(negatives.shape)} beside {vectors.shape}"
        )
    num_bad = sum(
        int((~np.isfinite(vectors[start : start + TILE_ROWS])).any(axis=1).sum())
        for start in range(0, len(vectors), TILE_ROWS)
    )
    if num_bad:
        raise ValueError(
            f"`positives` must be finite numbers. Received: {num_bad} rows with NaN or infinity"
        )
    if ids.dtype.kind not in "iu" or ids.min() < 0 or (np.bincount(ids) == 0).any():
        raise ValueError(
            "`cluster_ids` must be the integers 0 to k - 1, each at least once. "
            f"Received: {np.unique(ids)[:8]}{'...' if len(np.unique(ids)) > 8 else ''}"
        )
    return vectors, ids


def check_pairs(excluded: Any, num_negatives: int) -> np.ndarray:
    """Gives the pairs in ascending order of the negatives."""
    pairs = np.asarray(excluded)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "`excluded` must be integers [pairs, 2]: a negative and a cluster. "
            f"Received: {pairs.dtype} {pairs.shape}"
        )
    if len(pairs) and not (pairs.min() >= 0 and pairs[:, 0].max() < num_negatives):
        raise ValueError(
            f"The negatives in `excluded` must be rows 0 to {num_negatives - 1}. "
            f"Received: {pairs[:, 0].min()} to {pairs[:, 0].max()}"
        )
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
