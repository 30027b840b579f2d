"""Where the cells of a network's map look at, from what they depend on."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.transfer import FeatureNetwork

_SIDE = 384  # pixels of a square, of which the cell in the middle must not see the edges


def align_features(features: FeatureNetwork, *, seed: int = 0) -> FeatureNetwork:
    """Gives a network with the offset that lays its cells on the middle of what they see.

    The offset that follows from the sides of maps takes all padding for symmetric. Pooling that
    begins at the first pixel is not: the cells of AlexNet's conv5 see 4.5 pixels farther right and
    down, more than a quarter of their distance. That matters where each pixel has its own answer.

    What a cell sees are the pixels of noise with a gradient. Where padding depends on the image's
    side, it is that of sides that the stride divides. Where a cell sees the whole image there is
    nothing to be told, and the offset stays.

    Args:
        features: the network; it is not changed.
        seed: of the noise.
    """
    noise = np.random.default_rng(seed).normal(0, 50, (1, _SIDE, _SIDE, 3))
    images = tf.constant(noise, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        maps = tf.cast(features.model(images, training=False), tf.float32)
        middle = maps.shape[1] // 2, maps.shape[2] // 2
        cell = tf.reduce_sum(tf.abs(maps[:, middle[0], middle[1]]))
    gradient = tape.gradient(cell, images)
    rows = np.flatnonzero(np.abs(gradient).max(axis=(0, 2, 3)))
    if not len(rows) or rows[0] == 0 or rows[-1] == _SIDE - 1:
        return features
    centre = (rows[0] + rows[-1] + 1) / 2  # between the edges of the first and the last
    offset = float(centre - (middle[0] + 0.5) * features.stride)
    return dataclasses.replace(features, offset=offset)
