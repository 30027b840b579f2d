"""A lens that magnifies the colours differently."""

import math

import tensorflow as tf


def add_lateral_aberration(image: tf.Tensor, strength: float) -> tf.Tensor:
    """Magnifies red and blue about the image's centre, so that green seems shrunk.

    Sampled with a cubic kernel: a linear one would blur red and blue by how far they are shifted,
    and so give the position away in a single channel.

    Args:
        image: uint8 or float32 `[height, width, 3]` in 0...255.
        strength: shift of red and blue at the corners in pixels, 0 or more; real lenses: 0 to 3.

    Returns:
        The image, of the same type and shape.

    Raises:
        ValueError: if `strength` is negative or not finite.

    Example:
        >>> image = tf.zeros([40, 60, 3], tf.uint8)
        >>> add_lateral_aberration(image, 2.0).shape
        TensorShape([40, 60, 3])

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1: "one color channel (commonly green) is shrunk
        toward the image center relative to the others".
    """
    check_strength(strength)
    shape = tf.shape(image)[:2]
    size = tf.cast(shape, tf.float32)
    magnification = 1 + strength / (tf.norm(size) / 2)
    shifted = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(image, tf.float32)[None, :, :, ::2],
        size=shape,
        scale=tf.stack([magnification, magnification]),
        translation=size / 2 * (1 - magnification),  # the centre stays
        kernel_type="keyscubic",
        antialias=False,
    )[0]
    if image.dtype == tf.uint8:
        shifted = tf.cast(tf.clip_by_value(tf.round(shifted), 0, 255), tf.uint8)
    shifted = tf.ensure_shape(shifted, [*image.shape[:2], 2])
    return tf.stack([shifted[..., 0], image[..., 1], shifted[..., 1]], axis=-1)


def check_strength(strength: float) -> None:
    """Raises `ValueError` unless a strength is a finite number of pixels."""
    if not 0 <= strength < math.inf:
        raise ValueError(
            "`strength` must be a number of pixels, 0 or more (real lenses: 0 to 3). "
            f"Received: strength={strength}"
        )
