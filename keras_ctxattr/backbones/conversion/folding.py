"""The same function without batch normalisation."""

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ctxattr.backbones.conversion.affine import ChannelAffine
from keras_ctxattr.backbones.conversion.replay import (
    Call,
    Copies,
    Trace,
    check_equal,
    describe,
    rebuild,
    trace_calls,
)
from keras_ctxattr.backbones.conversion.sliding import WindowConvolution2D
from keras_ctxattr.layers.convolution import SmallMapConv2D

# These and no other subclasses: what a stranger's `call` does between kernel and output is unknown.
_FOLDABLE = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.Dense,
    SmallMapConv2D,
    WindowConvolution2D,
)


def fold_batch_normalization(
    backbone: keras.Model, *, patch_size: int | None = None
) -> keras.Model:
    """Gives the same function without batch normalisation, as inference computes it.

    A normalisation that alone follows a convolution or dense layer without activation is multiplied
    into that layer, whose bias takes over the shift. Any other (before the convolution as in
    ResNetV2 and DenseNet, after a concatenation, an activation or pooling, of a tensor with other
    uses) becomes a `ChannelAffine` layer of its name: one scale and one offset a channel.

    Args:
        backbone: functional or sequential model, float32 `[batch, height, width, 3]` -> features.
        patch_size: side in pixels at which both forms are compared, for a backbone that needs more
            than 96 and leaves its input size open.

    Returns:
        A `keras.Model` of the same input and output shapes; only the layers folded into have
        changed weights, and a bias.

    Raises:
        ValueError: if a normalisation is inside another layer (`TimeDistributed`, a layer with its
            own `call`), or is called with `training=True`; the message names it.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.3.
    """
    trace = trace_calls(backbone, patch_size)
    for call in trace.calls:
        _check_replaceable(call)
    folded = rebuild(trace, backbone.input_shape[1:], _Folding(trace).run)
    check_equal(trace, folded)
    return folded


def _check_replaceable(call: Call) -> None:
    """Refuses normalisations that the graph does not show, or that depend on the batch."""
    layer, settings = call.layer, (*call.args[1:], call.kwargs.get("training"))
    if isinstance(layer, layers.BatchNormalization):
        hidden = any(setting is True for setting in settings)
    else:
        parts = layer._flatten_layers() if isinstance(layer, layers.Layer) else ()
        hidden = any(isinstance(part, layers.BatchNormalization) for part in parts)
    if hidden:
        raise ValueError(
            "Each normalisation of `backbone` must be a layer of its graph, called without "
            f"training=True. Received: {describe(layer)}"
        )


class _Folding(Copies):
    """Multiplies normalisations into the layers before them, or puts scale and offset there."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        producers = {id(call.result): call.layer for call in trace.calls}
        used = [tensor for call in trace.calls for tensor in call.inputs]
        uses = Counter(id(tensor) for tensor in (*used, *trace.model.outputs))
        self._norms: dict[int, layers.BatchNormalization] = {}  # by the id of the layer before
        for call in trace.calls:
            if isinstance(call.layer, layers.BatchNormalization):
                source = producers.get(id(call.inputs[0]))
                is_only = uses[id(call.inputs[0])] == 1 == trace.calls_of(call.layer)
                if is_only and _can_fold_into(source, trace) and _is_of_channels(call):
                    self._norms[id(source)] = call.layer
        self._folded = {id(norm) for norm in self._norms.values()}

    def run(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Gives what a call becomes."""
        if id(call.layer) in self._folded:
            return args[0]
        if isinstance(call.layer, layers.BatchNormalization):
            weights = list(_scale_and_offset(call.layer))
            return self.apply_instead(call, lambda: _affine_for(call.layer), weights, args[0])
        norm = self._norms.get(id(call.layer))
        if norm is None:
            return self.apply(call, args, kwargs)
        weights = _folded_weights(call.layer, norm)
        return self.apply_instead(call, lambda: _with_bias(call.layer), weights, args[0])


def _can_fold_into(layer: Any, trace: Trace) -> bool:
    if type(layer) not in _FOLDABLE or trace.calls_of(layer) != 1:
        return False
    return layer.activation in (None, keras.activations.linear)


def _is_of_channels(call: Call) -> bool:
    """Tells whether a normalisation is one of the last axis, a layer's filters or units."""
    return call.layer.axis in (-1, len(call.inputs[0].shape) - 1)


def _with_bias(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "use_bias": True})


def _affine_for(norm: layers.BatchNormalization) -> ChannelAffine:
    """Gives an unbuilt layer in place of a normalisation."""
    return ChannelAffine(norm.axis, name=norm.name, trainable=norm.trainable, dtype="float32")


def _scale_and_offset(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Gives what inference multiplies by and then adds, float64 `[channels]` each."""
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance, "float64") + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    offset = -np.asarray(norm.moving_mean) * scale
    return scale, offset + np.asarray(norm.beta) if norm.center else offset


def _folded_weights(layer: Any, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Gives the kernel (a separable convolution's two kernels) and the bias of both in one."""
    scale, offset = _scale_and_offset(norm)
    weights = layer.get_weights()
    bias = weights.pop() if layer.use_bias else 0.0
    if isinstance(layer, layers.DepthwiseConv2D):  # [row, column, channel, multiplier]
        weights[-1] = weights[-1] * scale.reshape(weights[-1].shape[2:])
    else:  # [..., filter]
        weights[-1] = weights[-1] * scale
    return [*weights, bias * scale + offset]
