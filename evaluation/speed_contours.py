"""Contours: one pass for every pixel beside pixel by pixel, and the benchmark.

- `contours_dense`: photographs a second whose contours the network finds by one pass, over those
  where it looks at the window around every pixel by itself (512 windows are timed, in batches of
  64). The network of the default recipe, float32, fresh weights.
- `contours_benchmark`: images a second that are scored at 99 thresholds, by all processors; the
  maps are gradients without what is no crest.
"""

import dataclasses
import time
from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from evaluation.speed_context import Measurements
from keras_ctxattr.tasks.contours.benchmark import count_images
from keras_ctxattr.tasks.contours.crops import pad_photograph
from keras_ctxattr.tasks.contours.labels import ContourImages, read_contour_images
from keras_ctxattr.tasks.contours.learning import build_learner, contour_detector
from keras_ctxattr.tasks.contours.network import WINDOW
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from keras_ctxattr.tasks.contours.suppression import suppress_non_maxima

_NUM_WINDOWS, _BATCH = 512, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is detected and scored.

    Attributes:
        source: BSDS500, a folder or archive.
        split: part of it.
        num_images: how many are scored, spread over all.
        rounds: alternations of the sides.
        thresholds: of the benchmark.
    """

    source: str
    split: str | None = None
    num_images: int = 20
    rounds: int = 3
    thresholds: int = 99


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    images = read_contour_images(workload.source, workload.split)
    chosen = np.unique(np.linspace(0, len(images) - 1, workload.num_images).astype(int))
    return {
        "contours_dense": _measure_dense(images.pixels[0], workload.rounds),
        "contours_benchmark": {"value": _measure_benchmark(images, chosen, workload.thresholds)},
    }


def _measure_dense(photograph: np.ndarray, rounds: int) -> dict[str, float]:
    network = build_learner(ContourRecipe(dtype_policy="float32")).network
    whole = contour_detector(network)
    apart = tf.function(network, reduce_retracing=True, autograph=False)
    windows = np.lib.stride_tricks.sliding_window_view(
        pad_photograph(photograph), (WINDOW, WINDOW), axis=(0, 1)
    )
    height, width = photograph.shape[:2]
    places = np.random.default_rng(0).integers(0, [height, width], (_NUM_WINDOWS, 2))
    seen = np.moveaxis(windows[places[:, 0], places[:, 1]], 1, -1).astype(np.float32)

    def look_at_windows() -> None:
        for batch in np.split(seen, _NUM_WINDOWS // _BATCH):
            apart(tf.constant(batch)).numpy()

    seconds: dict[str, list[float]] = {"whole": [], "apart": []}
    for number in range(rounds + 1):  # the first round compiles
        taken = {
            "whole": _time(lambda: whole(photograph)),
            "apart": _time(look_at_windows) * height * width / _NUM_WINDOWS,
        }
        if number:
            for side, value in taken.items():
                seconds[side].append(value)
    value, baseline = (1 / float(np.median(seconds[side])) for side in ("whole", "apart"))
    return {"value": value, "baseline": baseline, "ratio": value / baseline}


def _measure_benchmark(images: ContourImages, chosen: np.ndarray, thresholds: int) -> float:
    tasks = [(_gradient_map(images.pixels[row]), images.boundaries[row]) for row in chosen]
    return len(tasks) / _time(lambda: count_images(tasks, thresholds=thresholds))


def _gradient_map(photograph: np.ndarray) -> np.ndarray:
    """Gives the crests of a blurred photograph's gradient, as many pixels as a detector's."""
    smooth = cv2.GaussianBlur(photograph.astype(np.float32), (0, 0), 2.0)
    steps = np.stack([cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))])
    strength = np.sqrt((steps**2).sum(axis=(0, -1)))
    return suppress_non_maxima(strength / strength.max())


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
