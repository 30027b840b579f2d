"""How far the positions that a network tells are from the true ones."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ctxattr.context.aberration.regressor import PositionRegressor


def predict_positions(
    model: PositionRegressor, batches: Iterable[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Gives where the patches of each batch are, and where the model puts them.

    Args:
        model: the regressor.
        batches: as `position_batches` gives them, one image a batch.

    Returns:
        (true, predicted), float32 `[images, patches, 2]`.
    """
    pairs = [
        (np.asarray(batch["positions"]), np.asarray(model(batch, training=False)))
        for batch in batches
    ]
    return np.stack([true for true, _ in pairs]), np.stack([predicted for _, predicted in pairs])


def position_errors(
    true_positions: np.ndarray, predicted_positions: np.ndarray, best_share: float = 0.1
) -> dict[str, float]:
    """Gives errors over all images and over those that are told best.

    Args:
        true_positions: float `[images, patches, 2]`, fractions of the image's size.
        predicted_positions: the same, as predicted.
        best_share: share of the images, those of the smallest error, of `rmse_best10`.

    Returns:
        `rmse`: root of the mean squared Euclidean distance over all patches; `rmse_centre`: that
        of always answering the centre; `ratio`: the first divided by the second; `rmse_best10`:
        root mean square over the best images; `rmse_centre_best10`: that of the centre on the
        images which are best for *it*.
    """
    best = max(1, math.ceil(best_share * len(true_positions)))

    def errors(predicted: np.ndarray) -> tuple[float, float]:
        squares = np.square(np.asarray(true_positions, np.float64) - predicted).sum(-1).mean(-1)
        squares.sort()
        return float(np.sqrt(squares.mean())), float(np.sqrt(squares[:best].mean()))

    rmse, rmse_best = errors(np.asarray(predicted_positions, np.float64))
    centre, centre_best = errors(np.full(2, 0.5))
    return {
        "rmse": rmse,
        "rmse_best10": rmse_best,
        "rmse_centre": centre,
        "rmse_centre_best10": centre_best,
        "ratio": rmse / centre,
    }
