"""How pure sets of images are, and how much of a collection they cover."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import auc


def select_sets(sets: Sequence[np.ndarray], num_images: int, count: int) -> list[int]:
    """Chooses sets that cover a collection, then cover it again.

    The highest-ranked set that has an image not covered yet is taken, until none has; then each
    image is to be covered twice, three times and so on.

    Args:
        sets: rows of images, int `[n]` each, by falling rank.
        num_images: images in all.
        count: how many sets to choose, at most.

    Returns:
        Numbers of sets, in the order chosen.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    covered = np.zeros(num_images, np.int64)
    left = [number for number, rows in enumerate(sets) if len(rows)]
    chosen: list[int] = []
    times = 1
    while left and len(chosen) < count:
        later = []
        for number in left:
            rows = np.unique(sets[number])
            if len(chosen) < count and (covered[rows] < times).any():
                covered[rows] += 1
                chosen.append(number)
            else:
                later.append(number)
        left, times = later, times + 1
    return chosen


def purity_coverage(sets: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Gives the curve of purity by coverage, and the area below it.

    A set's purity is the largest share of its images that show the same category. By falling
    purity, sets are put together: their mean purity stands over the share of all images that are in
    one of them.

    Args:
        sets: rows of images, int `[n]` each, at least one.
        labels: bool `[images, categories]`, which categories each shows.

    Returns:
        `purity` and `coverage`, float64 `[sets]` each; `area`, between coverages 0 and 1, purity
        being that of the first set before it and 0 after the last; `area_to_half`, up to .5.

    Raises:
        ValueError: if there is no set, or one is empty.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5 and figure 9.
    """
    if not sets or any(len(rows) == 0 for rows in sets):
        raise ValueError(
            "There must be sets, each with images. "
            f"Received: {len(sets)} sets, {sum(len(rows) == 0 for rows in sets)} of them empty"
        )
    shows = np.asarray(labels, bool)
    purities = np.array([shows[rows].mean(axis=0).max() for rows in sets])
    order = np.argsort(-purities, kind="stable")
    covered = np.zeros(len(shows), bool)
    coverage = np.empty(len(sets))
    for place, number in enumerate(order):
        covered[sets[number]] = True
        coverage[place] = covered.mean()
    purity = np.cumsum(purities[order]) / np.arange(1, len(sets) + 1)
    return {
        "purity": purity,
        "coverage": coverage,
        "area": _area(coverage, purity, 1.0),
        "area_to_half": _area(coverage, purity, 0.5),
    }


def _area(coverage: np.ndarray, purity: np.ndarray, end: float) -> float:
    """Gives the area below straight lines between points, from coverage 0 to an end."""
    places = np.concatenate([[0.0], coverage])
    heights = np.concatenate([purity[:1], purity])
    if places[-1] > end:
        inside = places < end
        heights = np.append(heights[inside], np.interp(end, places, heights))
        places = np.append(places[inside], end)
    return float(auc(places, heights))
