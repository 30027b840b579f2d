"""Pooling as Caffe rounds it."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class CeilMaxPooling2D(keras.layers.Layer):
    """3x3 max pooling with stride 2 whose output size is rounded up.

    A side n becomes ceil((n - 3) / 2) + 1: 24 -> 12 -> 6 -> 3, but 57 -> 28, where Keras's
    `"same"` gives 29 and shifts every window by one pixel.

    Call arguments:
        activations: float `[batch, height, width, channels]`, **not negative** (after a ReLU), or
            the border would see the padding's zeros.

    Returns:
        float `[batch, ceil((height - 3) / 2) + 1, ceil((width - 3) / 2) + 1, channels]`.

    Reference:
        Caffe's pooling layer, in which both papers' networks were trained.
    """

    def call(self, activations: Any) -> Any:
        """Gives the pooled activations."""
        height, width = activations.shape[1:3]
        if height is not None and width is not None and height % 2 == 0 and width % 2 == 0:
            # Here "same" pads one row and column at the far end, too, without a copy.
            return ops.max_pool(activations, 3, strides=2, padding="same")
        padded = ops.pad(activations, ((0, 0), (0, 1), (0, 1), (0, 0)))
        return ops.max_pool(padded, 3, strides=2, padding="valid")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the pooled shape."""
        batch, height, width, channels = input_shape
        sides = [None if side is None else (side - 2) // 2 + 1 for side in (height, width)]
        return (batch, *sides, channels)
