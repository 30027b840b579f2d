"""Canny's edges as a contour map, both thresholds swept: the baseline of every benchmark."""

import cv2
import numpy as np

_LEVELS = 50
_HIGHEST = 600.0  # of sigma times the gradient's L2 norm over 3 x 3 pixels of 0 to 255

SIGMA, RATIO = 3.0, 0.5
"""Chosen on the first 50 validation images of BSDS500."""


def canny_map(
    photograph: np.ndarray, *, sigma: float = SIGMA, ratio: float = RATIO, levels: int = _LEVELS
) -> np.ndarray:
    """Gives for every pixel the highest threshold at which Canny's detector still marks it.

    Args:
        photograph: uint8 `[height, width, 3]`, RGB.
        sigma: of the Gaussian before, in pixels.
        ratio: lower threshold over the higher one, 0 to 1.
        levels: thresholds, evenly up to a gradient of 600 / sigma.

    Returns:
        float32 `[height, width]` in [0, 1]; lines of one pixel at each level.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Canny 1986, "A computational approach to edge detection".
    """
    if sigma <= 0 or not 0 <= ratio <= 1 or levels < 1:
        raise ValueError(
            "`sigma` must be over 0, `ratio` 0 to 1 and `levels` at least 1. "
            f"Received: sigma={sigma}, ratio={ratio}, levels={levels}"
        )
    grey = cv2.cvtColor(np.asarray(photograph), cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma)
    down, right = (
        cv2.Sobel(smooth, cv2.CV_16S, *order, borderType=cv2.BORDER_REPLICATE)
        for order in ((0, 1), (1, 0))
    )
    scores = np.zeros(grey.shape, np.float32)
    for level in range(1, levels + 1):
        high = _HIGHEST / sigma * level / levels
        edges = cv2.Canny(right, down, ratio * high, high, L2gradient=True)
        scores[edges > 0] = level / levels
    return scores
