"""Figures of the contour benchmark from counts of pixels: ODS, OIS, average precision.

Every image has, at each threshold, four counts: how many contour pixels all its annotators drew
together and how many of these were found; how many the map has and how many of these some annotator
drew. Recall is the share of the former two, precision of the latter.

Reference:
    Arbelaez, Maire, Fowlkes, Malik 2011, "Contour detection and hierarchical image segmentation",
    section 3.1, and the released benchmark of BSDS500.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

_BETWEEN = np.linspace(0, 1, 100)  # places between two thresholds at which the best is looked for
_RECALLS = np.arange(101) / 100


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContourCounts:
    """Counts of pixels of one image, or of several together, at each threshold.

    Attributes:
        thresholds: float64 `[t]`, rising.
        found: int64 `[t]`, annotators' pixels with a partner, summed over annotators.
        drawn: int64 `[t]`, annotators' pixels, summed over annotators.
        right: int64 `[t]`, pixels of the map that have a partner among any annotator's.
        marked: int64 `[t]`, pixels of the map.
    """

    thresholds: np.ndarray
    found: np.ndarray
    drawn: np.ndarray
    right: np.ndarray
    marked: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """Float64 `[t]`, 0 where nothing was drawn."""
        return _share(self.found, self.drawn)

    @property
    def precision(self) -> np.ndarray:
        """Float64 `[t]`, 0 where nothing is marked."""
        return _share(self.right, self.marked)


def even_thresholds(count: int = 99) -> np.ndarray:
    """Gives float64 `[count]`, k / (count + 1): a pixel is marked where the map is no less."""
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def f_measure(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Gives the harmonic mean of both, 0 where both are."""
    return _share(2 * precision * recall, precision + recall)


def summarize_contours(counts: Sequence[ContourCounts]) -> dict[str, Any]:
    """Gives the benchmark's figures of a set of images.

    Args:
        counts: of each image, all at the same thresholds.

    Returns:
        `ods`: the best F of one threshold for all images, found between neighbouring thresholds by
        interpolating precision and recall; `ois`: F of the counts that each image has at its own
        best threshold; both as `{"f", "precision", "recall", "threshold"}`, the threshold of `ois`
        being the mean; `ap`: area under precision by recall, sampled at .00, .01 ... 1.00 and 0
        where no threshold reaches; `curve`: `thresholds`, `recall`, `precision` and `f` of all
        images together; `images`: `threshold`, `recall`, `precision` and `f` of each at its best.

    Raises:
        ValueError: if there is no image, or thresholds differ.
    """
    if not counts:
        raise ValueError("`counts` must be of at least one image. Received: none")
    thresholds = counts[0].thresholds
    if any(not np.array_equal(one.thresholds, thresholds) for one in counts):
        raise ValueError("`counts` must all be at the same thresholds. Received: different ones")
    total = add_counts(counts)
    curve_f = f_measure(total.precision, total.recall)
    images = [best_point(thresholds, one.recall, one.precision) for one in counts]
    own = add_counts([_at_best(one) for one in counts])
    return {
        "ods": best_point(thresholds, total.recall, total.precision),
        "ois": {
            "f": float(f_measure(own.precision, own.recall)[0]),
            "precision": float(own.precision[0]),
            "recall": float(own.recall[0]),
            "threshold": float(np.mean([one["threshold"] for one in images])),
        },
        "ap": area_under_curve(total.recall, total.precision),
        "curve": {
            "thresholds": thresholds.tolist(),
            "recall": total.recall.tolist(),
            "precision": total.precision.tolist(),
            "f": curve_f.tolist(),
        },
        "images": images,
    }


def add_counts(counts: Sequence[ContourCounts]) -> ContourCounts:
    """Gives the counts of all images together."""
    names = ("found", "drawn", "right", "marked")
    sums = {name: np.sum([getattr(one, name) for one in counts], axis=0) for name in names}
    return ContourCounts(thresholds=counts[0].thresholds, **sums)


def _at_best(counts: ContourCounts) -> ContourCounts:
    """Gives the counts of an image at its own best threshold."""
    best = int(f_measure(counts.precision, counts.recall).argmax())
    columns = dataclasses.fields(counts)
    return ContourCounts(**{one.name: getattr(counts, one.name)[[best]] for one in columns})


def best_point(
    thresholds: np.ndarray, recall: np.ndarray, precision: np.ndarray
) -> dict[str, float]:
    """Gives the threshold of the best F, looked for also between neighbouring thresholds.

    Args:
        thresholds: float `[t]`, rising.
        recall: float `[t]`.
        precision: float `[t]`.

    Returns:
        `f`, `precision`, `recall` and `threshold` there, the first of equals.
    """
    columns = np.stack([thresholds, recall, precision], 1)
    shares = _BETWEEN[:, None]
    lines = columns[:-1, None] * (1 - shares) + columns[1:, None] * shares
    points = np.concatenate([columns[:1], lines.reshape(-1, 3)])
    f = f_measure(points[:, 2], points[:, 1])
    best = int(f.argmax())
    threshold, at_recall, at_precision = map(float, points[best])
    return {
        "f": float(f[best]),
        "precision": at_precision,
        "recall": at_recall,
        "threshold": threshold,
    }


def area_under_curve(recall: np.ndarray, precision: np.ndarray) -> float:
    """Gives the area under precision by recall, between points by straight lines.

    Where several points have one recall, the one of the lowest threshold counts.

    Args:
        recall: float `[t]`, by rising threshold.
        precision: float `[t]`.

    Returns:
        0 to 1.01, since both ends of the sampled recalls .00, .01 ... 1.00 count.
    """
    known, first = np.unique(recall, return_index=True)
    if len(known) < 2:
        return 0.0
    sampled = np.interp(_RECALLS, known, np.asarray(precision)[first], left=0.0, right=0.0)
    return float(sampled.sum() / 100)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
