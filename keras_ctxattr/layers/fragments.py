"""A map as fragments, each of every n-th cell, and back: pooling at every pixel."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class MapFragments2D(keras.layers.Layer):
    """Divides a map into `size` x `size` fragments: each has every `size`-th cell both ways.

    What a network with strides computes on windows `size` pixels apart, it computes on one
    fragment; on all of them together, on every window.

    Call arguments:
        maps: float `[batch, rows, columns, channels]`.

    Returns:
        float `[size * size * batch, ceil(rows / size), ceil(columns / size), channels]`, one
        fragment after the other; zeros where a fragment has no cell.

    Args:
        size: distance of a fragment's cells, at least 1.
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        Giusti, Ciresan, Masci, Gambardella, Schmidhuber 2013, "Fast image scanning with deep
        max-pooling convolutional neural networks".
    """

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = _check_size(size)

    def call(self, maps: Any) -> Any:
        """Gives the fragments."""
        missing = -tf.shape(maps)[1:3] % self.size
        paddings = tf.stack([tf.zeros(2, tf.int32), missing], axis=1)
        return tf.space_to_batch(maps, [self.size, self.size], paddings)

    def compute_output_shape(self, maps_shape: Any) -> tuple[Any, ...]:
        """Gives the fragments' shape."""
        batch, *sides, channels = maps_shape
        sides = [None if side is None else -(-side // self.size) for side in sides]
        return (None if batch is None else batch * self.size**2, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class JoinedFragments2D(keras.layers.Layer):
    """Puts the fragments of `MapFragments2D` together again.

    Call arguments:
        fragments: float `[size * size * batch, rows, columns, channels]`.

    Returns:
        float `[batch, size * rows, size * columns, channels]`.

    Args:
        size: distance of a fragment's cells, at least 1.
        **kwargs: passed on to `keras.layers.Layer`.
    """

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = _check_size(size)

    def call(self, fragments: Any) -> Any:
        """Gives the map."""
        return tf.batch_to_space(fragments, [self.size, self.size], [[0, 0], [0, 0]])

    def compute_output_shape(self, fragments_shape: Any) -> tuple[Any, ...]:
        """Gives the map's shape."""
        batch, *sides, channels = fragments_shape
        sides = [None if side is None else side * self.size for side in sides]
        return (None if batch is None else batch // self.size**2, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "size": self.size}


def _check_size(size: int) -> int:
    if size < 1:
        raise ValueError(f"`size` must be at least 1. Received: {size}")
    return int(size)
