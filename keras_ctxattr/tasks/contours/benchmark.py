"""The boundary benchmark of BSDS500: contour maps against what people drew."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from skimage.morphology import thin

from keras_ctxattr.tasks.contours.matching import (
    BENCHMARK_SEED,
    MAX_DISTANCE,
    Reference,
    match_contours,
)
from keras_ctxattr.tasks.contours.metrics import (
    ContourCounts,
    even_thresholds,
    summarize_contours,
)

Task = tuple[np.ndarray, np.ndarray]
"""A contour map and the annotators' boundaries of its image."""


def count_pixels(
    contour_map: np.ndarray,
    boundaries: np.ndarray,
    *,
    thresholds: int = 99,
    thinned: bool = True,
    matching: str = "benchmark",
    max_distance: float = MAX_DISTANCE,
    seed: int = BENCHMARK_SEED,
) -> ContourCounts:
    """Counts what is found and what is right of one image at each threshold.

    At each threshold the pixels where the map is no less are thinned to lines of one pixel and
    matched with every annotator's in turn. A pixel of the map is right if any annotator's takes it.

    Args:
        contour_map: float `[height, width]` in [0, 1].
        boundaries: bool `[annotators, height, width]`, one pixel thin.
        thresholds: how many, evenly between 0 and 1.
        thinned: whether to thin; the benchmark does.
        matching: `"benchmark"` or `"optimal"`: see `match_contours`.
        max_distance: between pixels that correspond, as a share of the diagonal.
        seed: of the benchmark's outliers.

    Raises:
        ValueError: if shapes or values do not fit.
    """
    scores = _check_map(contour_map, boundaries)
    references = [Reference.of(one, max_distance) for one in boundaries]
    levels = even_thresholds(thresholds)
    rows = []
    known: dict[bytes, list[int]] = {}
    for number, level in enumerate(levels):
        marked = scores >= level
        key = np.packbits(marked).tobytes()
        if key not in known:  # an 8-bit map has a few levels only
            contours = thin(marked) if thinned else marked
            known = {key: _count(contours, references, matching, [seed, number])}
        rows.append(known[key])
    found, right, total = np.array(rows, np.int64).reshape(-1, 3).T
    drawn = np.full(len(levels), np.count_nonzero(boundaries), np.int64)
    return ContourCounts(thresholds=levels, found=found, drawn=drawn, right=right, marked=total)


def score_contours(
    tasks: Iterable[Task],
    *,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Scores the contour maps of a set of images.

    Args:
        tasks: for each image (contour map, annotators' boundaries), as `count_pixels` takes them.
        num_processes: how many images are worked on at a time. With more than one, a script must
            keep what it does under `if __name__ == "__main__":`, since each process imports it.
        progress: called with the number of images done.
        **settings: of `count_pixels`.

    Returns:
        What `summarize_contours` gives.

    Example:
        >>> truth = np.zeros((1, 40, 40), bool)
        >>> truth[0, 20] = True
        >>> score_contours([(truth[0] * 0.7, truth)], thresholds=9)["ods"]["f"]
        1.0
    """
    return summarize_contours(
        count_images(tasks, num_processes=num_processes, progress=progress, **settings)
    )


def count_images(
    tasks: Iterable[Task],
    *,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> Sequence[ContourCounts]:
    """Gives the counts of each image, in order; the arguments are those of `score_contours`."""
    if num_processes == 1:
        results: list[ContourCounts] = []
        for task in tasks:
            results.append(count_pixels(*task, **settings))
            _tell(progress, len(results))
        return results
    # "spawn": a process with TensorFlow's threads may not be forked.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_processes, context) as pool:
        futures = [pool.submit(count_pixels, *task, **settings) for task in tasks]
        try:
            for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                future.result()
                _tell(progress, done)
        except BaseException:  # the others need not be counted
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _tell(progress: Callable[[int], None] | None, done: int) -> None:
    if progress is not None:
        progress(done)


def _check_map(contour_map: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    scores = np.asarray(contour_map, np.float64)
    if scores.ndim != 2 or np.shape(boundaries)[1:] != scores.shape or not len(boundaries):
        raise ValueError(
            "A contour map must be [height, width] and boundaries [annotators, height, width] of "
            f"at least one annotator. Received: shapes {scores.shape} and {np.shape(boundaries)}"
        )
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(
            "A contour map must hold numbers from 0 to 1. Received: "
            f"{scores.min()} to {scores.max()}"
        )
    return scores


def _count(
    contours: np.ndarray, references: Sequence[Reference], matching: str, seed: Sequence[int]
) -> list[int]:
    """Gives [found, right, marked] of one map."""
    is_right = np.zeros(np.count_nonzero(contours), bool)
    found = 0
    for number, reference in enumerate(references):
        own = np.random.SeedSequence([*seed, number]).generate_state(1)[0]
        matched, is_found = match_contours(contours, reference, matching=matching, seed=int(own))
        is_right |= matched
        found += int(is_found.sum())
    return [found, int(is_right.sum()), len(is_right)]
