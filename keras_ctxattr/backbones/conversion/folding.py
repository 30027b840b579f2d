"""The same function without batch normalisation."""

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ctxattr.backbones.conversion.replay import (
    Call,
    Copies,
    Trace,
    check_equal,
    describe,
    rebuild,
    trace_calls,
)


def fold_batch_normalization(backbone: keras.Model) -> keras.Model:
    """Gives the same function without batch normalisation, as inference computes it.

    Each normalisation must directly follow a convolution or dense layer without activation, whose
    weights take over the scale and whose bias takes over the shift.

    Args:
        backbone: functional or sequential model, float32 `[batch, height, width, 3]` -> features.

    Returns:
        A `keras.Model` of the same input and output shapes; only the layers folded into have
        changed weights, and a bias.

    Raises:
        ValueError: if a normalisation follows something else; the message names it.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.3.
    """
    trace = trace_calls(backbone, None)
    folded = rebuild(trace, backbone.input_shape[1:], _Folding(trace).run)
    check_equal(trace, folded)
    return folded


class _Folding(Copies):
    """Multiplies normalisations into the layers before them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        producers = {id(call.result): call for call in trace.calls}
        uses = Counter(id(tensor) for call in trace.calls for tensor in call.inputs)
        self._norms: dict[int, layers.BatchNormalization] = {}
        for call in trace.calls:
            if isinstance(call.layer, layers.BatchNormalization):
                source = producers.get(id(call.inputs[0]))
                is_only = uses[id(call.inputs[0])] == 1 == trace.calls_of(call.layer)
                if source is None or not is_only or not _can_fold_into(source.layer, trace):
                    raise ValueError(
                        "Each normalisation of `backbone` must follow its own Conv2D, "
                        "DepthwiseConv2D or Dense layer that has no activation. "
                        f"Received: {describe(call.layer)} elsewhere"
                    )
                self._norms[id(source.layer)] = call.layer

    def run(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Gives what a call becomes."""
        if isinstance(call.layer, layers.BatchNormalization):
            return args[0]
        norm = self._norms.get(id(call.layer))
        if norm is None:
            return self.apply(call, args, kwargs)
        weights = _folded_weights(call.layer, norm)
        return self.apply_instead(call, lambda: _with_bias(call.layer), weights, args[0])


def _can_fold_into(layer: Any, trace: Trace) -> bool:
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
    if not isinstance(layer, kinds) or trace.calls_of(layer) != 1:
        return False
    return layer.activation in (None, keras.activations.linear)


def _with_bias(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "use_bias": True})


def _folded_weights(layer: Any, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Gives [kernel, bias] of the layer and its normalisation in one."""
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance, "float64") + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    kernel = np.asarray(layer.kernel)
    bias = np.asarray(layer.bias) if layer.use_bias else 0.0
    bias = (bias - np.asarray(norm.moving_mean)) * scale
    if norm.center:
        bias = bias + np.asarray(norm.beta)
    if isinstance(layer, layers.DepthwiseConv2D):  # [row, column, channel, multiplier]
        return [kernel * scale.reshape(kernel.shape[2:]), bias]
    return [kernel * scale, bias]
