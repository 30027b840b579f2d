"""From photographs with boxes to the batches that a RetinaNet learns from and detects in.

Element `e` of the endless sequence is a pure function of (seed, `e`); step `s` takes elements from
`s * images_per_batch` on. So training resumes at any step without replaying.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.layers import CanvasProcessing
from keras_ctxattr.tasks.detection.canvases import lay_on_canvas, mirror_boxes, scaled_size
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe

_LAST = 2**62
_PADDING = -1  # what keras-hub takes for "no object", as a class and in a box


def retinanet_batches(
    photographs: BoxedPhotographs,
    processing: dict[str, Any],
    recipe: RetinaNetRecipe,
    *,
    seed: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Gives training batches, one a step, without end.

    Difficult objects are left out: what is hard to make out is background here.

    Args:
        photographs: What to learn from.
        processing: What brings photographs to the network, as `FeatureNetwork` has it.
        recipe: Sizes.
        seed: Of the run, 0 to 2**31 - 1.
        first_step: Where to begin: batches are those that an uninterrupted run would give.

    Returns:
        A dataset of (images, labels): float32 `[batch, image_size, image_size, 3]`, 0 around the
        photograph; `boxes` float32 `[batch, objects, 4]`, (left, top, right, bottom) edges in
        pixels of the canvas, and `labels` int32 `[batch, objects]`, both -1 where there is none.

    Raises:
        ValueError: If there is no photograph, or no object to learn.
    """
    first = first_step * recipe.images_per_batch
    elements = tf.data.Dataset.range(first, _LAST).map(
        _loader(photographs, recipe, seed), num_parallel_calls=2, deterministic=True
    )
    process = CanvasProcessing(**processing)

    @tf.autograph.experimental.do_not_convert
    def finish(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        images = process(batch["canvas"], batch["size"])
        return images, {"boxes": batch["boxes"], "labels": batch["labels"]}

    batches = elements.batch(recipe.images_per_batch, drop_remainder=True)
    return batches.map(finish, num_parallel_calls=2, deterministic=True).prefetch(2)


def detection_batches(
    photographs: BoxedPhotographs, processing: dict[str, Any], recipe: RetinaNetRecipe
) -> tf.data.Dataset:
    """Gives every photograph once, in order, to detect in.

    Args:
        photographs: Their boxes are not looked at.
        processing: As for `retinanet_batches`.
        recipe: Sizes.

    Returns:
        A dataset of (images, sizes): float32 `[batch, image_size, image_size, 3]` as for training,
        and int32 `[batch, 2]`, height and width of the scaled photograph. The last batch may be
        smaller.
    """
    read = encoded_reader(photographs.manifest)
    process = CanvasProcessing(**processing)

    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(read(row))
        size = scaled_size(tf.shape(image)[:2], recipe.image_size)
        return lay_on_canvas(image, size, recipe.image_size), size

    @tf.autograph.experimental.do_not_convert
    def finish(canvases: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return process(canvases, sizes), sizes

    loaded = tf.data.Dataset.range(len(photographs)).map(
        load, num_parallel_calls=2, deterministic=True
    )
    batches = loaded.batch(recipe.images_per_batch)
    return batches.map(finish, num_parallel_calls=2, deterministic=True).prefetch(2)


def _loader(
    photographs: BoxedPhotographs, recipe: RetinaNetRecipe, seed: int
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Gives the function from an element's number to a photograph on its canvas."""
    boxes, classes = _pad_objects(photographs)
    read, count = encoded_reader(photographs.manifest), len(photographs)

    @tf.autograph.experimental.do_not_convert
    def load(element: tf.Tensor) -> dict[str, tf.Tensor]:
        row = shuffled_rows(element[None], count, seed)[0]
        image, labels = decode_image(read(row)), tf.gather(classes, row)
        size = scaled_size(tf.shape(image)[:2], recipe.image_size)
        scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
        placed = tf.gather(boxes, row) * tf.tile(scale[::-1], [2])
        draw = tf.random.stateless_uniform([], tf.stack([tf.constant(seed, tf.int64), element]))
        image, placed = _mirror_where(draw < recipe.flip, image, placed, size)
        return {
            "canvas": lay_on_canvas(image, size, recipe.image_size),
            "size": size,
            "boxes": tf.where(labels[:, None] < 0, float(_PADDING), placed),
            "labels": labels,
        }

    return load


def _mirror_where(
    is_mirrored: tf.Tensor, image: tf.Tensor, boxes: tf.Tensor, size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors a photograph, and its boxes on the canvas, or gives both as they are."""
    return tf.cond(
        is_mirrored,
        lambda: (tf.reverse(image, [1]), mirror_boxes(boxes, size[1])),
        lambda: (image, boxes),
    )


def _pad_objects(photographs: BoxedPhotographs) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives boxes [photograph, object, 4] and classes [photograph, object], difficult ones out."""
    kept = [~difficult for difficult in photographs.difficult]
    most = max((int(mask.sum()) for mask in kept), default=0)
    if not most:
        raise ValueError(
            "At least one photograph must have an object that is not difficult, to learn from. "
            f"Received: {len(photographs)} photographs with none"
        )
    boxes = np.full((len(kept), most, 4), _PADDING, np.float32)
    classes = np.full((len(kept), most), _PADDING, np.int32)
    for row, mask in enumerate(kept):
        boxes[row, : mask.sum()] = photographs.boxes[row][mask]
        classes[row, : mask.sum()] = photographs.classes[row][mask]
    with tf.init_scope():
        return tf.constant(boxes), tf.constant(classes)
