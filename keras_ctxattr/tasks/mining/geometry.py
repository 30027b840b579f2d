"""Whether four matched patches lie as a constellation does: two by two, side by side."""

import numpy as np

SMALLEST, LARGEST = 2 / 3, 4 / 3
"""Side of the square of patches' centres, over the patches' mean side."""

_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])


def fit_squares(centres: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits an upright square to the centres of four patches each, by least squares.

    The square's middle is the centres' mean whatever its side, and the error grows with the square
    of what the side is off its best: a side out of bounds is best at the bound.

    Args:
        centres: float `[..., 4, 2]`, (x, y) of the patches of one constellation, in the order upper
            left, upper right, lower left, lower right.
        sides: float `[..., 4]`, sides of these patches, over 0, in the same unit.

    Returns:
        (float64 `[...]` sides of the squares, between 2/3 and 4/3 of the patches' mean side;
        float64 `[...]` sums of the centres' squared distances from the squares' corners, over the
        side squared).

    Raises:
        ValueError: if shapes do not fit, or a side is not over 0.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    places, lengths = np.asarray(centres, np.float64), np.asarray(sides, np.float64)
    if places.shape[-2:] != (4, 2) or lengths.shape != places.shape[:-1]:
        raise ValueError(
            "`centres` must be [..., 4, 2] and `sides` [..., 4]. "
            f"Received: shapes {places.shape} and {lengths.shape}"
        )
    if not (lengths > 0).all():
        raise ValueError(f"`sides` must be over 0. Received: {lengths.min()}")
    offsets = places - places.mean(axis=-2, keepdims=True)
    best = (offsets * _CORNERS).sum(axis=(-2, -1)) / (_CORNERS**2).sum()
    mean = lengths.mean(axis=-1)
    found = np.clip(best, SMALLEST * mean, LARGEST * mean)
    errors = ((offsets - found[..., None, None] * _CORNERS) ** 2).sum(axis=(-2, -1))
    return found, errors / found**2


def verify_constellations(centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Tells which matches lie as a constellation does: bool `[...]`, an error under 1.

    Args:
        centres: as for `fit_squares`.
        sides: likewise.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    return fit_squares(centres, sides)[1] < 1
