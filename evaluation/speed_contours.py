"""Contours: one pass for every pixel beside pixel by pixel, and the benchmark.

- `contours_dense`: photographs a second whose contours the network finds by one pass, over those
  where it looks at the window around every pixel by itself (512 windows are timed, in batches of
  64). The network of the default recipe with 16 attributes, float32, fresh weights.
- `contours_transfer`, `contours_transfer_2`: photographs a second whose map is put together from
  patches, every pixel or every second one laying its own, over those of that one pass. A book of
  12 000 codes; three pixels of ten may be contours, as a trained network has it.
- `contours_benchmark`: images a second that are scored at 99 thresholds, by all processors; the
  maps are gradients without what is no crest.
"""

import dataclasses
import os
import time
from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from evaluation.speed_context import Measurements
from keras_ctxattr.tasks.contours.benchmark import count_images
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.crops import PATCH, pad_photograph
from keras_ctxattr.tasks.contours.labels import ContourImages, read_contour_images
from keras_ctxattr.tasks.contours.learning import build_learner, contour_detector
from keras_ctxattr.tasks.contours.network import WINDOW
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from keras_ctxattr.tasks.contours.suppression import suppress_non_maxima
from keras_ctxattr.tasks.contours.transfer import FLOOR, PatchTransfer

_NUM_WINDOWS, _BATCH = 512, 64
_NUM_ATTRIBUTES, _NUM_CODES = 16, 12_000
_SHARE = 0.3  # of the pixels whose patches are laid


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
        **_measure_maps(images, workload),
        "contours_benchmark": {"value": _measure_benchmark(images, chosen, workload.thresholds)},
    }


def _measure_maps(images: ContourImages, workload: Workload) -> Measurements:
    photograph = images.pixels[0]
    recipe = ContourRecipe(dtype_policy="float32")
    network = build_learner(recipe, num_attributes=_NUM_ATTRIBUTES).network
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

    chances, book = tf.constant(_draw_chances(photograph)), _draw_book(images)
    by_one, by_two = (
        tf.function(PatchTransfer(book, stride=stride), autograph=False) for stride in (1, 2)
    )
    seconds: dict[str, list[float]] = {"whole": [], "apart": [], "by_one": [], "by_two": []}
    for number in range(workload.rounds + 1):  # the first round compiles
        taken = {
            "whole": _time(lambda: whole(photograph)),
            "apart": _time(look_at_windows) * height * width / _NUM_WINDOWS,
            "by_one": _time(lambda: by_one(chances).numpy()),
            "by_two": _time(lambda: by_two(chances).numpy()),
        }
        if number:
            for side, value in taken.items():
                seconds[side].append(value)
    rates = {side: 1 / float(np.median(taken)) for side, taken in seconds.items()}
    return {
        name: {"value": rates[one], "baseline": rates[other], "ratio": rates[one] / rates[other]}
        for name, one, other in (
            ("contours_dense", "whole", "apart"),
            ("contours_transfer", "by_one", "whole"),
            ("contours_transfer_2", "by_two", "whole"),
        )
    }


def _draw_chances(photograph: np.ndarray) -> np.ndarray:
    """Gives chances of contours that follow the gradient, and of attributes that are drawn."""
    strength = _gradient(photograph)
    edges = np.minimum(strength * FLOOR / np.quantile(strength, 1 - _SHARE), 1)
    drawn = np.random.default_rng(0).random((*edges.shape, _NUM_ATTRIBUTES))
    return np.concatenate([edges[..., None], drawn], axis=-1).astype(np.float32)


def _draw_book(images: ContourImages) -> CodeBook:
    """Gives contour patches under codes that are drawn."""
    generator = np.random.default_rng(0)
    patches = []
    for boundaries in images.boundaries:
        windows = np.lib.stride_tricks.sliding_window_view(boundaries, (PATCH, PATCH), axis=(1, 2))
        places = np.argwhere(windows[..., PATCH // 2, PATCH // 2])
        chosen = generator.permutation(places)[: -(-_NUM_CODES // len(images))]
        patches.append(windows[tuple(chosen.T)])
    stacked = np.concatenate(patches)[:_NUM_CODES]
    numbers = generator.permutation(1 << _NUM_ATTRIBUTES)[: len(stacked)]
    codes = np.stack([numbers >> 8, numbers & 255], axis=1).astype(np.uint8)
    return CodeBook.of(codes, stacked)


def _measure_benchmark(images: ContourImages, chosen: np.ndarray, thresholds: int) -> float:
    tasks = [(_gradient_map(images.pixels[row]), images.boundaries[row]) for row in chosen]
    processes = os.cpu_count() or 1
    taken = _time(lambda: count_images(tasks, num_processes=processes, thresholds=thresholds))
    return len(tasks) / taken


def _gradient_map(photograph: np.ndarray) -> np.ndarray:
    """Gives the crests of a blurred photograph's gradient, as many pixels as a detector's."""
    strength = _gradient(photograph)
    return suppress_non_maxima(strength / strength.max())


def _gradient(photograph: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(photograph.astype(np.float32), (0, 0), 2.0)
    steps = np.stack([cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))])
    return np.sqrt((steps**2).sum(axis=(0, -1)))


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
