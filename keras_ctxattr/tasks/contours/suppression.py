"""Non-maximum suppression of contour maps: what is not the crest of a contour becomes 0."""

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

_SMOOTHING = 4  # radius of the triangle by which the map is smoothed before its curvature is taken
_MARGIN = 5  # pixels along the image's edges whose contours fade out
_FACTOR = 1.01  # by how much a neighbour must exceed a pixel to put it out


def suppress_non_maxima(
    contour_map: np.ndarray, *, radius: int = 1, margin: int = _MARGIN
) -> np.ndarray:
    """Keeps the crests of a contour map.

    The direction across a contour is that of the strongest curvature of the smoothed map. A pixel
    becomes 0 where the map is higher (by more than a hundredth) at a place up to `radius` pixels
    from it in this direction, to either side, places between pixels by bilinear interpolation.
    Results of the benchmark hang on this step: maps that are to be compared must all have had it,
    or none.

    Args:
        contour_map: float `[height, width]` in [0, 1], 2 pixels a side or more.
        radius: pixels to either side that are looked at.
        margin: pixels along the image's edges over which the map falls to 0, where a network sees
            the edge itself; at most half a side.

    Returns:
        float32 `[height, width]`.

    Raises:
        ValueError: if the map is none or too small.

    Reference:
        Dollar, Zitnick 2015, "Fast edge detection using structured forests", released code; there
        the direction is approximated, by up to 13 degrees, where it is exact here.
    """
    scores = np.asarray(contour_map, np.float32)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ValueError(
            "`contour_map` must be [height, width] of 2 pixels a side or more. "
            f"Received: shape {scores.shape}"
        )
    across = directions_across(scores)
    rows, columns = np.indices(scores.shape, np.float32)
    is_crest = np.ones(scores.shape, bool)
    for distance in (*range(-radius, 0), *range(1, radius + 1)):
        places = rows + distance * np.sin(across), columns + distance * np.cos(across)
        beside = map_coordinates(scores, places, order=1, mode="nearest")
        is_crest &= scores * _FACTOR >= beside
    fading = np.multiply.outer(*(_fade(side, margin) for side in scores.shape))
    return np.where(is_crest, scores * fading, 0).astype(np.float32)


def directions_across(contour_map: np.ndarray) -> np.ndarray:
    """Gives the direction across the contour at every pixel.

    Args:
        contour_map: float `[height, width]`.

    Returns:
        float32 `[height, width]`, angles 0 to pi from the columns' axis towards the rows'.
    """
    triangle = np.bartlett(2 * _SMOOTHING + 3)[1:-1]
    triangle /= triangle.sum()
    # Reflected edges: smoothing must not see the image's end as a contour.
    smooth = cv2.sepFilter2D(
        np.asarray(contour_map, np.float64), -1, triangle, triangle, borderType=cv2.BORDER_REFLECT
    )
    down, right = np.gradient(smooth)
    down_down, down_right = np.gradient(down)
    right_right = np.gradient(right, axis=1)
    # The principal direction of the greater curvature, and that of the stronger one: on a crest
    # curvature is negative across, at its foot positive.
    greater = np.arctan2(2 * down_right, right_right - down_down) / 2
    stronger = np.where(right_right + down_down < 0, greater + np.pi / 2, greater)
    return np.mod(stronger, np.pi).astype(np.float32)


def _fade(side: int, margin: int) -> np.ndarray:
    """Gives factors 0, 1 / margin, ... 1, ... 1 / margin, 0 along a side."""
    margin = min(margin, side // 2)
    places = np.arange(side)
    return np.minimum(np.minimum(places, places[::-1]) / max(margin, 1), 1.0)
