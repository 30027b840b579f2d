"""The form of a backbone that slides over images of any size."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ctxattr.backbones.conversion.replay import (
    Call,
    Copies,
    check_equal,
    describe,
    rebuild,
    trace_calls,
)

# Layers that act on each value by itself: they do not mind that a flattened map is no longer flat.
_ELEMENTWISE = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout)
_GLOBAL_POOLING = {
    layers.GlobalAveragePooling2D: layers.AveragePooling2D,
    layers.GlobalMaxPooling2D: layers.MaxPooling2D,
}


def fully_convolutional(backbone: keras.Model, *, patch_size: int | None = None) -> keras.Model:
    """Gives the form of a backbone that slides over images of any size.

    A dense layer over a flattened `[side, side, channels]` map becomes a convolution of that size
    without padding, global pooling becomes pooling over `side`, all else stays. On one patch it is
    the same function. On a larger image it equals the backbone on every patch **only as far as
    padding is not seen**: the convolutions of a patch pad its border with zeros where those of the
    image see the neighbouring pixels. Batch normalisation in training mode takes its statistics
    over all positions.

    Args:
        backbone: functional or sequential model, float32 `[batch, size, size, 3]` ->
            `[batch, num_features]`. One that is convolutional already is copied.
        patch_size: side in pixels of what one position sees as one patch; None takes the
            backbone's input size, 96 where that is open.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]` -> float32 `[batch, rows, columns,
        num_features]`; `[batch, 1, 1, num_features]` at height = width = `patch_size`.

    Raises:
        ValueError: if a layer has no convolutional form; the message names it.

    Example:
        >>> from keras_ctxattr.backbones import compact
        >>> net = fully_convolutional(compact(width=8, num_features=16))
        >>> net.compute_output_shape((1, 160, 128, 3))
        (1, 3, 2, 16)

    Reference:
        Long, Shelhamer, Darrell 2015, section 3.1; Doersch, Gupta, Efros 2015, section 4.3.
    """
    trace = trace_calls(backbone, patch_size)
    converted = rebuild(trace, (None, None, 3), _Sliding().run)
    shape, features = converted.output_shape, trace.model.output_shape[-1]
    if len(shape) != 4 or shape[-1] != features:
        raise ValueError(
            "`backbone` must keep its spatial axes up to global pooling or to flattening and a "
            f"Dense layer. Received: one that gives {shape} where {features} features are wanted"
        )
    check_equal(trace, converted)
    return converted


class _Sliding(Copies):
    """Turns what looks at the whole map of one patch into what slides over any map."""

    def __init__(self) -> None:
        super().__init__()
        # Tensors of the trace that are flattened maps -> the map's shape. Ours stay maps.
        self._flat: dict[int, tuple[int, ...]] = {}

    def run(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Gives what a call becomes."""
        for tensor in call.inputs:
            if id(tensor) in self._flat:
                return self._run_flattened(call, self._flat[id(tensor)], args, kwargs)
        shape = call.inputs[0].shape if call.inputs else ()
        if len(shape) == 4 and _flattens(call.layer):
            self._flat[id(call.result)] = tuple(shape[1:])
            return args[0]
        pooling = _GLOBAL_POOLING.get(type(call.layer))
        if pooling is not None:
            options = {"strides": 1, "name": call.layer.name, "dtype": "float32"}
            return self.apply_instead(call, lambda: pooling(shape[1:3], **options), [], args[0])
        return self.apply(call, args, kwargs)

    def _run_flattened(self, call: Call, shape: tuple[int, ...], args: Any, kwargs: Any) -> Any:
        if isinstance(call.layer, layers.Dense):
            return self._convolve(call, args[0], shape)
        if not isinstance(call.layer, _ELEMENTWISE):
            raise ValueError(
                "`backbone` must have a Dense layer between a flattened map and anything that is "
                f"not elementwise. Received: {describe(call.layer)} on a flattened map"
            )
        self._flat[id(call.result)] = shape
        return self.apply(call, args, kwargs)

    def _convolve(self, call: Call, tensor: Any, shape: tuple[int, ...]) -> Any:
        """Gives a dense layer over a flattened map as a convolution over the map."""
        dense = call.layer
        kernel = np.reshape(dense.kernel, (*shape, dense.units))
        weights = [kernel, np.asarray(dense.bias)] if dense.use_bias else [kernel]
        return self.apply_instead(call, lambda: _convolution_for(dense, shape[:2]), weights, tensor)


def _flattens(layer: Any) -> bool:
    return isinstance(layer, layers.Flatten) or (
        isinstance(layer, layers.Reshape) and len(layer.target_shape) == 1
    )


def _convolution_for(dense: layers.Dense, kernel_size: tuple[int, ...]) -> layers.Conv2D:
    """Gives an unbuilt convolution with a dense layer's other settings."""
    kept = {"name", "trainable", "activation", "use_bias", "dtype"}
    kept |= {"kernel_regularizer", "bias_regularizer", "activity_regularizer"}
    config = {key: value for key, value in dense.get_config().items() if key in kept}
    # One slice of the map for each kernel position: not for dozens of them.
    convolution = WindowConvolution2D if np.prod(kernel_size) <= 25 else layers.Conv2D
    return convolution.from_config(
        {"filters": dense.units, "kernel_size": kernel_size, "padding": "valid", **config}
    )


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class WindowConvolution2D(layers.Conv2D):
    """A convolution without padding or strides, as one matrix product over all windows.

    The same function and weights as `keras.layers.Conv2D`, which takes nine times as long for a
    3x3 kernel of 256 to 4096 channels on 32 maps of 3x3, and 2.5 times on one of 17x17 (two CPU
    cores, forward and gradient).

    Call arguments:
        maps: float `[batch, height, width, channels]`.

    Returns:
        float `[batch, height - kernel height + 1, width - kernel width + 1, filters]`.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Gives the convolution without bias and activation."""
        height, width = self.kernel_size
        rows, columns = ops.shape(inputs)[1] - height + 1, ops.shape(inputs)[2] - width + 1
        windows = [
            inputs[:, row : row + rows, column : column + columns]
            for row in range(height)
            for column in range(width)
        ]
        weights = ops.reshape(kernel, (-1, self.filters))  # [row x column x channel, filter]
        return ops.matmul(ops.concatenate(windows, axis=-1), weights)
