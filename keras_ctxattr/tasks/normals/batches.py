"""Batches of photographs and normals: mirrored, cropped and recoloured, in graph, step by step."""

import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.normals.frames import LabelledFrames
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

_ENDLESS = 2**40


def normals_batches(
    frames: LabelledFrames, recipe: NormalsRecipe, *, seed: int = 0, first_step: int = 0
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, each a function of seed and step alone.

    Args:
        frames: what is learnt from; it stays in memory.
        recipe: how frames are changed, and how many a batch has.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of (uint8 `[frames, height, width, 3]`, float16 `[frames, height, width, 3]`).
    """
    with tf.init_scope():  # captured by the graph, not copied into it
        pixels, normals = tf.constant(frames.pixels), tf.constant(frames.normals)
    count = recipe.frames_per_batch

    @tf.autograph.experimental.do_not_convert
    def draw(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = shuffled_rows(element[None], len(frames), seed)[0]
        key = tf.stack([tf.constant(seed, tf.int64), element])
        return change_frame(pixels[row], normals[row], recipe, key)

    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    changed = elements.map(draw, num_parallel_calls=2, deterministic=True)
    return changed.batch(count, drop_remainder=True).prefetch(2)


def change_frame(
    pixels: tf.Tensor, normals: tf.Tensor, recipe: NormalsRecipe, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives a frame as training sees it: a crop at the frame's size, recoloured, perhaps mirrored.

    A crop is what a camera of longer focal length sees: its normals stay what they are. A mirrored
    one's point to the other side.

    Args:
        pixels: uint8 `[height, width, 3]`.
        normals: float `[height, width, 3]`, 0 where there is none.
        recipe: says how much.
        key: int64 `[2]`, of the draws.

    Returns:
        The same shapes and dtypes.
    """
    draws = tf.random.stateless_uniform([4], key)
    size = tf.cast(tf.shape(pixels)[:2], tf.float32)
    extent = tf.cast(tf.round(size / (1 + draws[0] * (recipe.max_zoom - 1))), tf.int32)
    room = tf.cast(tf.shape(pixels)[:2] - extent + 1, tf.float32)
    top, left = tf.unstack(tf.cast(draws[1:3] * room, tf.int32))
    height, width = tf.unstack(extent)
    shown = tf.image.resize(pixels[top : top + height, left : left + width], tf.shape(pixels)[:2])
    # A mean of normals of two planes belongs to neither: the nearest one is taken.
    found = tf.image.resize(
        normals[top : top + height, left : left + width], tf.shape(normals)[:2], method="nearest"
    )
    jitter = recipe.colour_jitter
    gains = tf.random.stateless_uniform([3], tf.random.fold_in(key, 1), 1 - jitter, 1 + jitter)
    shown = tf.cast(tf.clip_by_value(shown * gains + 0.5, 0, 255), tf.uint8)
    if recipe.flip:
        is_flipped = draws[3] < 0.5
        shown = tf.where(is_flipped, shown[:, ::-1], shown)
        sign = tf.constant([-1, 1, 1], normals.dtype)
        found = tf.where(is_flipped, found[:, ::-1] * sign, found)
    return tf.ensure_shape(shown, pixels.shape), tf.ensure_shape(found, normals.shape)
