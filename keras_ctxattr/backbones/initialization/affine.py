"""Layers of filters: what goes into one, and what its filters respond before the activation."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from keras import layers
from numpy.lib.stride_tricks import sliding_window_view

AFFINE = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)  # and their subclasses

# Bounds of the samples of one layer's inputs: their number, and 512 MB of float32.
_MAX_SAMPLES = 2**14
_MAX_VALUES = 2**27


def respond(layer: Any, tensor: Any) -> Any:
    """Gives a layer's output before its activation, float `[batch, ..., filters]`."""
    activation, layer.activation = layer.activation, None
    try:
        return layer(tensor)
    finally:
        layer.activation = activation


def activate(layer: Any, response: Any) -> Any:
    """Gives a layer's output from its response."""
    return response if layer.activation is None else layer.activation(response)


def moments(responses: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Gives mean and standard deviation of each channel over all else, float64 `[channels]`."""
    pilot: Any = None
    counts, totals, squares = [], [], []
    for response in responses:
        flat = np.reshape(response, (-1, response.shape[-1]))
        # About a first guess of the mean, or a large one would swallow the variance.
        pilot = flat.mean(axis=0) if pilot is None else pilot
        centred = flat - pilot
        counts.append(len(flat))
        totals.append(centred.sum(axis=0, dtype=np.float64))
        squares.append(np.square(centred).sum(axis=0, dtype=np.float64))
    shift = np.sum(totals, axis=0) / np.sum(counts)
    variance = np.sum(squares, axis=0) / np.sum(counts) - shift**2
    return pilot + shift, np.sqrt(np.maximum(variance, 0))


def sample_inputs(layer: Any, tensors: Sequence[Any], generator: np.random.Generator) -> np.ndarray:
    """Draws what single responses of a layer are made of.

    Args:
        layer: convolution (its windows, padding included) or dense layer (its input vectors).
        tensors: its inputs, float `[batch, ..., channels]` each.
        generator: source of the draws.

    Returns:
        float32 `[samples, kernel height * kernel width, channels]` (1 position for a dense layer),
        without repetition, at most 16 384 samples and 512 MB.
    """
    kernel = layer.kernel.shape
    positions = int(np.prod(getattr(layer, "kernel_size", ())))  # 1 for a dense layer
    limit = min(_MAX_SAMPLES, _MAX_VALUES // (positions * tensors[0].shape[-1]))
    share = max(1, limit // len(tensors))
    cut = _sample_vectors if len(kernel) == 2 else _sample_windows
    samples = [cut(layer, np.asarray(tensor), share, generator) for tensor in tensors]
    return np.concatenate(samples).reshape(-1, positions, tensors[0].shape[-1])


def _sample_vectors(
    layer: layers.Dense, inputs: np.ndarray, share: int, generator: np.random.Generator
) -> np.ndarray:
    vectors = inputs.reshape(-1, inputs.shape[-1])
    return vectors[_draw(len(vectors), share, generator)]


def _sample_windows(
    layer: Any, maps: np.ndarray, share: int, generator: np.random.Generator
) -> np.ndarray:
    """Gives windows, float32 `[samples, row, column, channel]`."""
    reaches = [
        (side - 1) * dilation + 1
        for side, dilation in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    strides = layer.strides
    if layer.padding == "same":
        sides = zip(maps.shape[1:3], reaches, strides, strict=True)
        maps = np.pad(maps, [(0, 0), *(_same_padding(*side) for side in sides), (0, 0)])
    windows = sliding_window_view(maps, reaches, axis=(1, 2))  # [image, row, column, channel, h, w]
    rows, columns = layer.dilation_rate
    windows = windows[:, :: strides[0], :: strides[1], :, ::rows, ::columns]
    drawn = _draw(int(np.prod(windows.shape[:3])), share, generator)
    return np.moveaxis(windows[np.unravel_index(drawn, windows.shape[:3])], 1, -1)


def _same_padding(side: int, reach: int, stride: int) -> tuple[int, int]:
    """Gives how far a side is padded before and after: TensorFlow's odd pixel comes after."""
    total = max((-(-side // stride) - 1) * stride + reach - side, 0)
    return total // 2, total - total // 2


def _draw(count: int, share: int, generator: np.random.Generator) -> np.ndarray:
    if count <= share:
        return np.arange(count)
    return np.sort(generator.choice(count, share, replace=False))
