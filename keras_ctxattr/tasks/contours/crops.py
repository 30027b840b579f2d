"""Crops of photographs and what the pixels at their places are, in graph, step by step."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.contours.labels import UNSURE, ContourImages, label_pixels
from keras_ctxattr.tasks.contours.network import STRIDE, WINDOW
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

MARGIN = WINDOW // 2
_ENDLESS = 2**40


class _Canvases(NamedTuple):
    """All photographs, mirrored at their edges, on canvases of one size."""

    pixels: tf.Tensor  # uint8 [images, side + 2 * margin, side + 2 * margin, 3]
    labels: tf.Tensor  # int8 [images, side, side]
    sizes: tf.Tensor  # int32 [images, 2]


def contour_batches(
    images: ContourImages, recipe: ContourRecipe, *, seed: int = 0, first_step: int = 0
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, each a function of seed and step alone.

    A crop shows what the network sees from `positions` x `positions` places, 8 pixels apart, all
    over a photograph, which is mirrored beyond its edges.

    Args:
        images: what is learnt from; it stays in memory, half a megapixel each.
        recipe: size and number of crops.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of (uint8 `[crops, side, side, 3]`, int8 `[crops, positions, positions]`): the
        label of the pixel in the middle of each place's window.

    Raises:
        ValueError: if a photograph is smaller than the places need.
    """
    reach = STRIDE * (recipe.positions - 1) + 1
    smallest = min(min(one.shape[:2]) for one in images.pixels)
    if smallest < max(reach, MARGIN + 1):
        raise ValueError(
            f"Photographs must have {max(reach, MARGIN + 1)} pixels a side for "
            f"positions={recipe.positions}. Received: one of {smallest}"
        )
    with tf.init_scope():  # captured by the graph, not copied into it
        canvases = _lay_out(images, recipe)
    count = recipe.crops_per_batch

    @tf.autograph.experimental.do_not_convert
    def cut(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.cast(shuffled_rows(element[None], len(images), seed)[0], tf.int32)
        key = tf.stack([tf.constant(seed, tf.int64), element])
        size = canvases.sizes[row]
        draws = tf.random.stateless_uniform([2], key)
        corner = tf.cast(draws * tf.cast(size - reach + 1, tf.float32), tf.int32)
        top, left = tf.unstack(corner)
        side = reach + 2 * MARGIN
        pixels = canvases.pixels[row, top : top + side, left : left + side]
        labels = canvases.labels[row, top : top + reach : STRIDE, left : left + reach : STRIDE]
        if recipe.flip:
            pixels, labels = _turn(pixels, labels, key)
        places = [recipe.positions] * 2
        return tf.ensure_shape(pixels, [side, side, 3]), tf.ensure_shape(labels, places)

    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    crops = elements.map(cut, num_parallel_calls=2, deterministic=True)
    return crops.batch(count, drop_remainder=True).prefetch(2)


def _lay_out(images: ContourImages, recipe: ContourRecipe) -> _Canvases:
    sizes = np.array([one.shape[:2] for one in images.pixels], np.int32)
    side = int(sizes.max())
    pixels = np.zeros((len(images), side + 2 * MARGIN, side + 2 * MARGIN, 3), np.uint8)
    labels = np.full((len(images), side, side), UNSURE, np.int8)
    for row, (photograph, boundaries) in enumerate(
        zip(images.pixels, images.boundaries, strict=True)
    ):
        padded = pad_photograph(photograph)
        pixels[row, : padded.shape[0], : padded.shape[1]] = padded
        height, width = photograph.shape[:2]
        labels[row, :height, :width] = label_pixels(boundaries, recipe.min_distance)
    return _Canvases(tf.constant(pixels), tf.constant(labels), tf.constant(sizes))


def pad_photograph(photograph: np.ndarray) -> np.ndarray:
    """Mirrors a photograph, uint8 `[height, width, 3]`, beyond its edges, half a window each."""
    return np.pad(photograph, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")


def _turn(pixels: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns a square and its labels by quarters and mirrors them, all eight ways alike."""
    own = tf.random.fold_in(key, 1)
    quarters = tf.random.stateless_uniform([], own, 0, 4, tf.int32)
    is_mirrored = tf.random.stateless_uniform([], tf.random.fold_in(own, 1)) < 0.5
    both = tf.image.rot90(pixels, quarters), tf.image.rot90(labels[..., None], quarters)
    turned, places = (tf.where(is_mirrored, tf.reverse(one, axis=[1]), one) for one in both)
    return turned, places[..., 0]
