"""The form of a network that gives its output at every pixel of an image, by one pass."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from keras_ctxattr.backbones.conversion.replay import (
    Call,
    Copies,
    check_equal,
    describe,
    rebuild,
    trace_calls,
)
from keras_ctxattr.layers.fragments import JoinedFragments2D, MapFragments2D

_WINDOWS = (layers.Conv2D, layers.DepthwiseConv2D, layers.MaxPooling2D, layers.AveragePooling2D)


def dense_evaluation(network: keras.Model, window: int) -> keras.Model:
    """Gives the form of a network that looks at the window around every pixel at once.

    A layer with strides is applied without them, and its map is divided into fragments that each
    have every n-th cell, so that later layers see what they saw; at the end fragments are put
    together. The work of neighbouring windows is shared: on a large image it takes one window's
    worth of each layer for every pixel of the output, not of the window.

    Args:
        network: functional or sequential model, float32 `[batch, window, window, 3]` ->
            `[batch, 1, 1, outputs]`, of layers that pad nothing.
        window: side in pixels of what it sees: its receptive field.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]` -> float32 `[batch, height - window +
        1, width - window + 1, outputs]`, with weights of its own. At row r and column c it is what
        the network gives of the window whose upper left pixel that is.

    Raises:
        ValueError: if a layer pads, or gives more than one position of a window.

    Reference:
        Giusti, Ciresan, Masci, Gambardella, Schmidhuber 2013, "Fast image scanning with deep
        max-pooling convolutional neural networks".
    """
    trace = trace_calls(network, window)
    if trace.model.output_shape[1:3] != (1, 1):
        raise ValueError(
            "`network` must give one position of a window, [batch, 1, 1, outputs]. "
            f"Received: {trace.model.output_shape} of {window} pixels"
        )
    dense = _Dense()
    joined = rebuild(trace, (None, None, 3), dense.run)
    maps = joined.output
    for place, size in reversed(list(enumerate(dense.strides))):
        maps = JoinedFragments2D(size, name=f"joined{place}", dtype="float32")(maps)
    cut = _CutToWindows(window, name="cut", dtype="float32")(maps, joined.input)
    converted = keras.Model(joined.input, cut, name=network.name)
    check_equal(trace, converted)
    return converted


class _Dense(Copies):
    """Takes the strides out of layers, and divides maps into fragments in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.strides: list[int] = []

    def run(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Gives what a call becomes."""
        layer = call.layer
        if getattr(layer, "padding", "valid") != "valid":
            raise ValueError(
                "`network` must consist of layers that pad nothing: padding is not seen by the "
                f"windows inside an image. Received: {describe(layer)}, padding={layer.padding!r}"
            )
        strides = {int(stride) for stride in _pair(getattr(layer, "strides", 1))}
        if strides == {1}:
            return self.apply(call, args, kwargs)
        if len(strides) > 1 or not isinstance(layer, _WINDOWS) or len(call.inputs) != 1:
            raise ValueError(
                "`network` must have strides in convolutions and pooling alone, the same both "
                f"ways. Received: {describe(layer)}, strides={layer.strides}"
            )
        (size,) = strides
        config = {**layer.get_config(), "strides": (1, 1)}
        weights = layer.get_weights()
        maps = self.apply_instead(call, lambda: type(layer).from_config(config), weights, args[0])
        self.strides.append(size)
        return MapFragments2D(size, name=f"{layer.name}_fragments", dtype="float32")(maps)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class _CutToWindows(keras.layers.Layer):
    """Cuts off what fragments that are not full add at the far ends."""

    def __init__(self, window: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = int(window)

    def call(self, maps: Any, images: Any) -> Any:
        """Gives `[batch, height - window + 1, width - window + 1, outputs]`."""
        rows, columns = tf.unstack(tf.shape(images)[1:3] - self.window + 1)
        return maps[:, :rows, :columns]

    def compute_output_shape(self, maps_shape: Any, images_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of what is left."""
        sides = [None if side is None else side - self.window + 1 for side in images_shape[1:3]]
        return (maps_shape[0], *sides, maps_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "window": self.window}
