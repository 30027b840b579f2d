"""Photographs with their classes, scaled to squares, and how a protocol divides them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.images import load_images
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.stl10 import Stl10
from keras_ctxattr.tasks.classification.protocol import Draw, Protocol, draw_photographs

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPhotographs:
    """Photographs to classify, in memory, and their divisions.

    Attributes:
        pixels: Uint8 `[images, side, side, 3]`.
        labels: Int64 `[images]`, 0 and more.
        names: Of the classes.
        draws: Divisions into what teaches and what tests.
    """

    pixels: np.ndarray
    labels: np.ndarray
    names: list[str]
    draws: list[Draw]


def read_photographs(
    manifest: Manifest,
    protocol: Protocol,
    *,
    labels: str | Path = "folders",
    seed: int = 0,
    progress: Progress | None = None,
) -> LabelledPhotographs:
    """Reads the photographs of all classes and draws a protocol's divisions.

    Args:
        manifest: Usable images.
        protocol: One with `train_per_class`.
        labels: As `keras_ctxattr.data.labels.read_labels` takes them.
        seed: Of the draws.
        progress: Called with (photographs read, photographs in all).

    Raises:
        CollectionError: If labels cannot be read, or tell fewer than 2 classes apart.
        ValueError: If a class has too few photographs.
    """
    found, names = read_labels(labels, list(manifest.keys))
    kept = [name for name in names if Path(name).name not in protocol.left_out]
    if len(kept) < 2:
        raise ValueError(
            f"There must be at least 2 classes beside those left out. Received: {', '.join(names)}"
        )
    numbers = np.array([kept.index(name) if name in kept else -1 for name in names] + [-1])
    classes = numbers[found]  # -1 takes the last
    rows = np.flatnonzero(classes >= 0)
    draws = draw_photographs(classes[rows], kept, protocol, seed)
    pixels = _load_squares(manifest.select(rows), protocol.side, progress)
    return LabelledPhotographs(pixels=pixels, labels=classes[rows], names=kept, draws=draws)


def _load_squares(manifest: Manifest, side: int, progress: Progress | None) -> np.ndarray:
    pixels = np.empty((len(manifest), side, side, 3), np.uint8)
    squares = load_images(manifest).map(
        lambda one: _to_square(one["image"], side), num_parallel_calls=tf.data.AUTOTUNE
    )
    for row, square in enumerate(squares.as_numpy_iterator()):
        pixels[row] = square
        if progress is not None:
            progress(row + 1, len(manifest))
    return pixels


# There is nothing to convert, and AutoGraph says so at length.
@tf.autograph.experimental.do_not_convert
def _to_square(image: tf.Tensor, side: int) -> tf.Tensor:
    """Scales both sides to a number of pixels: proportions are lost, as in the papers' protocol."""
    # With averaging where a side shrinks; one may shrink and the other grow.
    scaled = tf.image.resize(image, [side, side], antialias=True)
    return tf.cast(tf.clip_by_value(scaled, 0, 255) + 0.5, tf.uint8)


def of_stl10(images: Stl10, num_draws: int) -> LabelledPhotographs:
    """Gives STL-10 with its predefined folds: each teaches once, all test images test.

    Args:
        images: As `keras_ctxattr.data.stl10.read_stl10` gives them.
        num_draws: How many of the folds, from the first on.

    Raises:
        ValueError: If there are fewer folds.
    """
    if num_draws > len(images.folds):
        raise ValueError(
            f"`--draws` must be at most the number of folds. Received: {num_draws} of "
            f"{len(images.folds)}"
        )
    count = len(images.train_labels)
    test = np.arange(count, count + len(images.test_labels))
    return LabelledPhotographs(
        pixels=np.concatenate([images.train_pixels, images.test_pixels]),
        labels=np.concatenate([images.train_labels, images.test_labels]),
        names=images.class_names,
        draws=[Draw(fold, test) for fold in images.folds[:num_draws]],
    )


def describe_draws(photographs: LabelledPhotographs) -> dict[str, Any]:
    """Gives how many photographs and classes teach and test."""
    first = photographs.draws[0]
    return {
        "num_classes": len(photographs.names),
        "num_draws": len(photographs.draws),
        "num_train": len(first.train),
        "num_test": len(first.test),
    }
