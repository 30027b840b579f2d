"""Colour patches, half of them on contours, with the binary patch of what was drawn there."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.contours.crops import (
    PATCH,
    cut_drawn,
    draw_annotators,
    draw_turn,
    who_drew,
)
from keras_ctxattr.tasks.contours.labels import CONTOUR, NONE, ContourImages, label_pixels
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

MIDDLE = 23
"""Row and column of a colour patch that the padded network is centred on."""

_REACH = PATCH // 2
_MAX_PLACES = 1_000_000  # of each kind
_ENDLESS = 2**40


class _Places(NamedTuple):
    """Photographs with a margin, what was drawn in them, and where examples are."""

    pixels: tf.Tensor  # uint8 [images, side + 2 * middle, side + 2 * middle, 3], mirrored
    drawn: tf.Tensor  # int32 [images, side + 2 * reach, side + 2 * reach]
    contours: tf.Tensor  # int32 [n, 3]: image, row, column
    others: tf.Tensor  # int32 [m, 3]
    sizes: tf.Tensor  # int32 [images, 2]


def patch_batches(
    images: ContourImages,
    recipe: ContourRecipe,
    *,
    patches: bool = False,
    seed: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, half contours, each a function of seed and step alone.

    Patches are cut as they are asked for, from the photographs in memory: up to a million places of
    contours and as many others, drawn once, of which every pass takes another order. Photographs
    are mirrored beyond their edges.

    Args:
        images: what is learnt from.
        recipe: number of patches, and whether they are turned and mirrored.
        patches: whether binary contour patches are given too, whose attributes are learnt.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of (uint8 `[n, 45, 45, 3]`, int8 `[n, 1, 1]`): colour patches whose pixel in row
        and column 23 is the example, and its label, contours first and others in turn. With
        `patches` also (uint8 `[n, 1, 45, 45]`, int32 `[n, 1]`): what one of those who drew a
        contour there drew around it, turned alike, and 0, or -1 for others and for contours whose
        binary patch leaves the photograph.

    Reference:
        Huang, Loy, Tang 2016, section 4.3 and 5: a million patches of each kind.
    """
    with tf.init_scope():  # captured by the graph, not copied into it
        places = _lay_out(images, recipe, seed)
    count = recipe.patches_per_batch

    @tf.autograph.experimental.do_not_convert
    def cut(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        is_contour = element % 2 == 0
        row, top, left = tf.unstack(
            tf.cond(
                is_contour,
                lambda: _take(places.contours, element // 2, seed),
                lambda: _take(places.others, element // 2, seed),
            )
        )
        key = tf.stack([tf.constant(seed, tf.int64), element])
        # One pixel more to either side, so that turning leaves the example in the middle.
        side = 2 * MIDDLE + 1
        square = places.pixels[row, top : top + side, left : left + side]
        around = places.drawn[row, top : top + PATCH, left : left + PATCH, None]
        if recipe.flip:
            turn = draw_turn(key)
            square, around = turn(square), turn(around)
        pixels = tf.ensure_shape(square[:PATCH, :PATCH], [PATCH, PATCH, 3])
        label = tf.where(is_contour, tf.constant(CONTOUR, tf.int8), tf.constant(NONE, tf.int8))
        if not patches:
            return pixels, tf.reshape(label, [1, 1])
        inside = tf.reduce_all(
            (tf.stack([top, left]) >= _REACH) & (tf.stack([top, left]) < places.sizes[row] - _REACH)
        )
        annotators = draw_annotators(around[None, _REACH, _REACH, 0], tf.random.fold_in(key, 2))
        has_patch = is_contour & inside & (around[_REACH, _REACH, 0] > 0)
        drawn = cut_drawn(around[None, ..., 0], annotators, has_patch[None])
        place = tf.where(has_patch, 0, -1)
        return pixels, tf.reshape(label, [1, 1]), drawn, tf.reshape(place, [1])

    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    cut_patches = elements.map(cut, num_parallel_calls=2, deterministic=True)
    return cut_patches.batch(count, drop_remainder=True).prefetch(2)


def _take(places: tf.Tensor, element: tf.Tensor, seed: int) -> tf.Tensor:
    return places[shuffled_rows(element[None], len(places), seed)[0]]


def _lay_out(images: ContourImages, recipe: ContourRecipe, seed: int) -> _Places:
    generator = np.random.default_rng(seed)
    sizes = np.array([one.shape[:2] for one in images.pixels], np.int32)
    side = int(sizes.max())
    shape = (len(images), side + 2 * MIDDLE, side + 2 * MIDDLE, 3)
    pixels = np.zeros(shape, np.uint8)
    drawn = np.zeros((len(images), side + 2 * _REACH, side + 2 * _REACH), np.int32)
    found: dict[int, list[np.ndarray]] = {CONTOUR: [], NONE: []}
    for row, (photograph, boundaries) in enumerate(
        zip(images.pixels, images.boundaries, strict=True)
    ):
        height, width = photograph.shape[:2]
        margin = (MIDDLE, MIDDLE)
        padded = np.pad(photograph, (margin, margin, (0, 0)), "reflect")
        pixels[row, : padded.shape[0], : padded.shape[1]] = padded
        drawn[row, _REACH : _REACH + height, _REACH : _REACH + width] = who_drew(boundaries)
        labels = label_pixels(boundaries, recipe.min_distance)
        for kind, places in found.items():
            own = np.argwhere(labels == kind).astype(np.int32)
            most = -(-2 * _MAX_PLACES // len(images))  # memory: no photograph gives all it has
            own = generator.permutation(own)[:most]
            places.append(np.insert(own, 0, row, axis=1))
    chosen = [
        generator.permutation(np.concatenate(found[kind]))[:_MAX_PLACES] for kind in (CONTOUR, NONE)
    ]
    return _Places(*map(tf.constant, (pixels, drawn, *chosen, sizes)))
