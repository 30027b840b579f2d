"""Photographs on canvases of one size, and their boxes with them: scaled, mirrored, padded."""

import tensorflow as tf

from keras_ctxattr.data.images import resize_image


def scaled_size(size: tf.Tensor, longer_side: int, shorter_side: int | None = None) -> tf.Tensor:
    """Gives the size that an image is scaled to.

    Args:
        size: Int32 `[2]`, height and width in pixels.
        longer_side: Pixels that the longer side has, at most where `shorter_side` is given.
        shorter_side: Pixels that the shorter side has, as far as `longer_side` allows.

    Returns:
        Int32 `[2]`, 1 to `longer_side`.
    """
    sides = tf.cast(size, tf.float64)
    scale = longer_side / tf.reduce_max(sides)
    if shorter_side is not None:
        scale = tf.minimum(scale, shorter_side / tf.reduce_min(sides))
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), 1)


def mirror_boxes(boxes: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Gives the boxes of a photograph that was mirrored left to right.

    Args:
        boxes: Float32 `[objects, 4]`, (left, top, right, bottom) edges in pixels.
        width: Int32 `[]`, the photograph's.

    Returns:
        Float32 `[objects, 4]`.
    """
    left, top, right, bottom = tf.unstack(boxes, axis=-1)
    edge = tf.cast(width, boxes.dtype)
    return tf.stack([edge - right, top, edge - left, bottom], -1)


def lay_on_canvas(image: tf.Tensor, size: tf.Tensor, side: int) -> tf.Tensor:
    """Scales an image and puts it into the upper left corner of a square of zeros.

    Args:
        image: Uint8 `[height, width, 3]`.
        size: Int32 `[2]`, height and width that it is scaled to, at most `side`.
        side: Of the canvas, in pixels.

    Returns:
        Uint8 `[side, side, 3]`.
    """
    pixels = scale_image(image, size)
    rows, columns = tf.unstack(side - size)
    return tf.ensure_shape(tf.pad(pixels, [[0, rows], [0, columns], [0, 0]]), [side, side, 3])


def scale_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Gives a uint8 image, `[height, width, 3]`, scaled to a size, int32 `[2]`."""
    return tf.cast(resize_image(image, size) + 0.5, tf.uint8)
