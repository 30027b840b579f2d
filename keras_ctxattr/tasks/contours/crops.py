"""Crops of photographs and what the pixels at their places are, in graph, step by step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.contours.labels import UNSURE, ContourImages, label_pixels
from keras_ctxattr.tasks.contours.network import STRIDE, WINDOW
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

MARGIN = WINDOW // 2
PATCH = 45
"""Pixels a side of a binary contour patch."""

_REACH = PATCH // 2
_MAX_ANNOTATORS = 31  # bits of an int32 above 0
_ENDLESS = 2**40


class _Canvases(NamedTuple):
    """All photographs, mirrored at their edges, on canvases of one size."""

    pixels: tf.Tensor  # uint8 [images, side + 2 * margin, side + 2 * margin, 3]
    labels: tf.Tensor  # int8 [images, side, side]
    sizes: tf.Tensor  # int32 [images, 2]
    drawn: tf.Tensor  # int32 [images, side + 2 * reach, side + 2 * reach], a bit per annotator
    has_patch: tf.Tensor  # bool [images, side, side]


def contour_batches(
    images: ContourImages,
    recipe: ContourRecipe,
    *,
    patches: bool = False,
    seed: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, each a function of seed and step alone.

    A crop shows what the network sees from `positions` x `positions` places, 8 pixels apart, all
    over a photograph, which is mirrored beyond its edges.

    Args:
        images: what is learnt from; it stays in memory, half a megapixel each.
        recipe: size and number of crops.
        patches: whether binary contour patches are given too, whose attributes are learnt.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of (uint8 `[crops, side, side, 3]`, int8 `[crops, positions, positions]`): the
        label of the pixel in the middle of each place's window. With `patches` also (uint8 `[crops,
        n, 45, 45]`, int32 `[crops, n]`): what one of those who drew a contour there drew around a
        place, 255 on contours, turned as the crop is; and the place's number, row by row, or -1
        where there are no more. n is `patches_per_crop`, or all places if they are fewer; only
        places whose patch lies in the photograph have one.

    Raises:
        ValueError: if a photograph is smaller than the places need, or the recipe's network sees
            more than 107 pixels.
    """
    if recipe.local_response:
        raise ValueError(
            "Crops are for networks without local response normalisation, which sees beyond them: "
            'give `examples="patches"`. Received: local_response=True'
        )
    reach = STRIDE * (recipe.positions - 1) + 1
    smallest = min(min(one.shape[:2]) for one in images.pixels)
    if smallest < max(reach, MARGIN + 1):
        raise ValueError(
            f"Photographs must have {max(reach, MARGIN + 1)} pixels a side for "
            f"positions={recipe.positions}. Received: one of {smallest}"
        )
    with tf.init_scope():  # captured by the graph, not copied into it
        canvases = _lay_out(images, recipe, patches)
    count = recipe.crops_per_batch

    @tf.autograph.experimental.do_not_convert
    def cut(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row = tf.cast(shuffled_rows(element[None], len(images), seed)[0], tf.int32)
        key = tf.stack([tf.constant(seed, tf.int64), element])
        size = canvases.sizes[row]
        draws = tf.random.stateless_uniform([2], key)
        corner = tf.cast(draws * tf.cast(size - reach + 1, tf.float32), tf.int32)
        top, left = tf.unstack(corner)
        side = reach + 2 * MARGIN
        pixels = canvases.pixels[row, top : top + side, left : left + side]
        places = (row, slice(top, top + reach, STRIDE), slice(left, left + reach, STRIDE))
        grids = [canvases.labels[places]]
        maps = [pixels]
        if patches:
            around = reach + 2 * _REACH
            maps.append(canvases.drawn[row, top : top + around, left : left + around, None])
            grids.append(tf.cast(canvases.has_patch[places], tf.int8))
        if recipe.flip:
            turn = draw_turn(key)
            maps, grids = (
                [turn(one) for one in maps],
                [turn(one[..., None])[..., 0] for one in grids],
            )
        shapes = [side, side, 3], [recipe.positions] * 2
        examples = tuple(map(tf.ensure_shape, (maps[0], grids[0]), shapes))
        if not patches:
            return examples
        draws = tf.random.fold_in(key, 2)
        most = min(recipe.patches_per_crop, recipe.positions**2)
        return *examples, *_cut_patches(maps[1][..., 0], grids[1] > 0, most, draws)

    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    crops = elements.map(cut, num_parallel_calls=2, deterministic=True)
    return crops.batch(count, drop_remainder=True).prefetch(2)


def _lay_out(images: ContourImages, recipe: ContourRecipe, patches: bool) -> _Canvases:
    sizes = np.array([one.shape[:2] for one in images.pixels], np.int32)
    side = int(sizes.max())
    pixels = np.zeros((len(images), side + 2 * MARGIN, side + 2 * MARGIN, 3), np.uint8)
    labels = np.full((len(images), side, side), UNSURE, np.int8)
    shape = (len(images), side, side) if patches else (0, 0, 0)
    drawn = np.zeros((shape[0], shape[1] + 2 * _REACH, shape[2] + 2 * _REACH), np.int32)
    has_patch = np.zeros(shape, bool)
    for row, (photograph, boundaries) in enumerate(
        zip(images.pixels, images.boundaries, strict=True)
    ):
        padded = pad_photograph(photograph)
        pixels[row, : padded.shape[0], : padded.shape[1]] = padded
        height, width = photograph.shape[:2]
        labels[row, :height, :width] = label_pixels(boundaries, recipe.min_distance)
        if patches:
            together = who_drew(boundaries)
            drawn[row, _REACH : _REACH + height, _REACH : _REACH + width] = together
            inside = np.zeros((height, width), bool)
            inside[_REACH : height - _REACH, _REACH : width - _REACH] = True
            has_patch[row, :height, :width] = inside & (together > 0)
    return _Canvases(*map(tf.constant, (pixels, labels, sizes, drawn, has_patch)))


def _cut_patches(
    drawn: tf.Tensor, has_patch: tf.Tensor, count: int, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws places of a crop, and cuts what one of those drew who have a contour there."""
    chances = tf.random.stateless_uniform([tf.size(has_patch)], key)
    order = tf.math.top_k(tf.where(tf.reshape(has_patch, [-1]), chances, -1.0), count)
    is_one = order.values >= 0
    positions = tf.shape(has_patch)[1]
    rows, columns = STRIDE * (order.indices // positions), STRIDE * (order.indices % positions)
    side = tf.range(PATCH)
    width = tf.shape(drawn)[1]
    pixels = (rows[:, None] + side)[:, :, None] * width + (columns[:, None] + side)[:, None, :]
    around = tf.gather(tf.reshape(drawn, [-1]), pixels)
    annotators = draw_annotators(around[:, _REACH, _REACH], tf.random.fold_in(key, 1))
    patches = cut_drawn(around, annotators, is_one)
    return patches, tf.where(is_one, order.indices, -1)


def who_drew(boundaries: np.ndarray) -> np.ndarray:
    """Gives int32 `[height, width]`: a bit for each annotator who drew a contour, up to 31."""
    bits = 1 << np.arange(min(len(boundaries), _MAX_ANNOTATORS), dtype=np.int32)
    return np.tensordot(bits, boundaries[: len(bits)].astype(np.int32), 1)


def draw_annotators(who: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Draws one of those who drew each of some pixels, int32 `[n]` of `who_drew`'s `[n]`."""
    everyone = tf.constant(1 << np.arange(_MAX_ANNOTATORS), tf.int32)
    has_drawn = tf.bitwise.bitwise_and(who[:, None], everyone) > 0
    noise = tf.random.stateless_uniform(tf.shape(has_drawn), key)
    return tf.argmax(tf.where(has_drawn, noise, -1.0), axis=1, output_type=tf.int32)


def cut_drawn(who: tf.Tensor, annotators: tf.Tensor, is_one: tf.Tensor) -> tf.Tensor:
    """Gives what an annotator drew, uint8 `[n, size, size]` of 255 and 0; nothing where not one.

    Args:
        who: int32 `[n, size, size]`, see `who_drew`.
        annotators: int32 `[n]`.
        is_one: bool `[n]`.
    """
    own = tf.bitwise.bitwise_and(tf.bitwise.right_shift(who, annotators[:, None, None]), 1)
    return tf.cast(tf.where(is_one[:, None, None], 255 * own, 0), tf.uint8)


def pad_photograph(photograph: np.ndarray) -> np.ndarray:
    """Mirrors a photograph, uint8 `[height, width, 3]`, beyond its edges, half a window each."""
    return np.pad(photograph, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")


def draw_turn(key: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Draws one of eight ways to turn and mirror a square, `[side, side, channels]`."""
    own = tf.random.fold_in(key, 1)
    quarters = tf.random.stateless_uniform([], own, 0, 4, tf.int32)
    is_mirrored = tf.random.stateless_uniform([], tf.random.fold_in(own, 1)) < 0.5

    def turn(square: tf.Tensor) -> tf.Tensor:
        turned = tf.image.rot90(square, quarters)
        return tf.where(is_mirrored, tf.reverse(turned, axis=[1]), turned)

    return turn
