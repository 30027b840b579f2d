"""Stage 1: one layer's filters, at unit responses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_ctxattr.backbones.initialization.affine import moments, respond, sample_inputs
from keras_ctxattr.backbones.initialization.filters import find_filters

# Mean of every response, so that most units behind a ReLU are alive.
MEAN_RESPONSE = 0.1
# Channels that vary less than this share of the layer's largest deviation count as constant.
_CONSTANT = 1e-6


def initialize_layer(
    layer: Any, tensors: Sequence[Any], method: str, generator: np.random.Generator
) -> str:
    """Sets a layer's kernel and bias from its inputs.

    Afterwards each channel's response over all batches and positions has standard deviation 1 and
    mean 0.1. A channel that does not vary on these inputs keeps the layer's typical scale.

    Args:
        layer: built Conv2D, DepthwiseConv2D or Dense with a bias.
        tensors: its inputs, one a batch.
        method: one of `filters.METHODS`.
        generator: source of the draws.

    Returns:
        The method that the filters are from; see `filters.find_filters`.
    """
    kernel, method = _find_kernel(layer, tensors, method, generator)
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(layer.bias.shape))
    mean, deviation = moments(respond(layer, tensor) for tensor in tensors)
    scale = 1 / _without_zeros(deviation)
    layer.kernel.assign(kernel * _per_channel(layer, scale))
    layer.bias.assign(MEAN_RESPONSE - mean * scale)
    return method


def _find_kernel(
    layer: Any, tensors: Sequence[Any], method: str, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Gives (a kernel at any scale, the method it is from)."""
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, layers.DepthwiseConv2D):
        # One or a few filters see one channel: clusters of its windows would say nothing.
        return generator.normal(size=shape), "gaussian"
    samples = sample_inputs(layer, tensors, generator)  # [sample, position, channel]
    groups = getattr(layer, "groups", 1)
    found = [
        find_filters(method, group.reshape(len(samples), -1), shape[-1] // groups, generator)
        for group in np.split(samples, groups, axis=-1)
    ]
    filters = np.concatenate([filters for filters, _ in found], axis=-1)
    return filters.reshape(shape), found[0][1]


def _without_zeros(deviation: np.ndarray) -> np.ndarray:
    varies = deviation > _CONSTANT * deviation.max()
    typical = deviation[varies].mean() if varies.any() else 1.0
    return np.where(varies, deviation, typical)


def _per_channel(layer: Any, values: np.ndarray) -> np.ndarray:
    """Gives one number a channel in a shape that multiplies the kernel."""
    if isinstance(layer, layers.DepthwiseConv2D):  # [row, column, channel, multiplier]
        return values.reshape(layer.kernel.shape[2:])
    return values
