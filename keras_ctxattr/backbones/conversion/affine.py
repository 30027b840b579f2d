"""What is left of a normalisation that no layer before it takes in."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ChannelAffine(keras.layers.Layer):
    """Multiplies every channel by one number and adds another: batch normalisation without batches.

    Call arguments:
        activations: float, any shape with a channel axis of known size.

    Returns:
        float, the shape of `activations`.

    Args:
        axis: the channel axis.
        **kwargs: passed on to `keras.layers.Layer`.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes scale and offset, float `[channels]` each, which change nothing yet."""
        channels = (input_shape[self.axis],)
        self.scale = self.add_weight(name="scale", shape=channels, initializer="ones")
        self.offset = self.add_weight(name="offset", shape=channels, initializer="zeros")

    def call(self, activations: Any) -> Any:
        """Gives the scaled and shifted activations."""
        shape = [1] * len(activations.shape)
        shape[self.axis] = -1
        scale, offset = ops.reshape(self.scale, shape), ops.reshape(self.offset, shape)
        return activations * scale + offset

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the shape of the activations, unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}
