"""The five measures of predicted surface normals."""

import numpy as np

THRESHOLDS = (11.25, 22.5, 30.0)
"""Degrees of the error below which a pixel counts as right."""


def angular_errors(predicted: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Gives the angle between two normals.

    Args:
        predicted: float `[..., 3]`, of any length over 0.
        normals: float `[..., 3]`, likewise.

    Returns:
        float64 `[...]`, degrees from 0 to 180; NaN where one has no length.
    """
    one, other = np.asarray(predicted, np.float64), np.asarray(normals, np.float64)
    # The arc tangent is exact for small angles, where the cosine is 1 to machine precision.
    sine = np.linalg.norm(np.cross(one, other), axis=-1)
    cosine = (one * other).sum(axis=-1)
    has_length = (one**2).sum(axis=-1) * (other**2).sum(axis=-1) > 0
    return np.where(has_length, np.degrees(np.arctan2(sine, cosine)), np.nan)


def summarize_errors(errors: np.ndarray) -> dict[str, float]:
    """Gives the measures of NYUv2, over the pixels of all images together.

    Args:
        errors: float, degrees of all valid pixels, at least one.

    Returns:
        `mean` and `median` in degrees; `within_11.25`, `within_22.5` and `within_30`, shares.

    Raises:
        ValueError: if there is no error, or one is not finite.

    Reference:
        Fouhey, Gupta, Hebert 2013, "Data-driven 3D primitives for single image understanding".
    """
    given = np.asarray(errors, np.float64).ravel()
    if len(given) == 0 or not np.isfinite(given).all():
        raise ValueError(
            "Errors must be of at least one pixel and finite; leave out pixels that have no "
            f"normal. Received: {len(given)}, {int((~np.isfinite(given)).sum())} of them not finite"
        )
    shares = {f"within_{limit:g}": float((given < limit).mean()) for limit in THRESHOLDS}
    return {"mean": float(given.mean()), "median": float(np.median(given)), **shares}
