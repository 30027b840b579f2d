"""Networks that turn a patch into a feature vector.

Every function returns a `keras.Model` from float32 `[batch, size, size, 3]` (patches as
`keras_ctxattr.layers.PatchProcessing` leaves them) to `[batch, num_features]`; `input_size=None`
gives the fully convolutional form, from any height and width to `[batch, rows, columns,
num_features]`. Both forms have the same weights under the same layer names (fc6's is
`[side * side * channels, num_features]` in one, `[side, side, channels, num_features]` in the
other).
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_ctxattr.layers.convolution import SmallMapConv2D
from keras_ctxattr.layers.normalization import LocalResponseNormalization
from keras_ctxattr.layers.pooling import CeilMaxPooling2D
from keras_ctxattr.layers.synchronized import SynchronizedBatchNormalization

PRESETS = ("released", "paper")
# Normalised layers of each preset: the paper says "all", the released network has these.
_NORMALIZED: dict[str, Sequence[str]] = {
    "released": ("conv3", "conv4", "conv5", "fc6"),
    "paper": ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6"),
}
# (filters, stride) of conv2. The paper's figure 3 prints 384 and 2, but only stride 1 gives the
# 7x7 pool5 that its section 4.3 needs at 227 pixels.
_CONV2: dict[str, tuple[int, int]] = {"released": (256, 1), "paper": (384, 2)}


def uniform_initializer(fan_in_share: float = 1.0) -> keras.initializers.Initializer:
    """Gives weights uniform in +-sqrt(3 / fan_in), as the released network starts.

    Args:
        fan_in_share: share of the unit's inputs that the initialised layer sees; 1/2 for each half
            of a layer over two concatenated vectors.
    """
    return keras.initializers.VarianceScaling(fan_in_share, mode="fan_in", distribution="uniform")


def batch_normalization(
    name: str, momentum: float = 0.95, dtype: Any = None
) -> SynchronizedBatchNormalization:
    """Gives batch normalisation without scale and shift.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1: "without the scale and shift".
    """
    return SynchronizedBatchNormalization(
        center=False, scale=False, momentum=momentum, epsilon=1e-5, name=name, dtype=dtype
    )


def _convolve(
    activations: Any,
    name: str,
    filters: int,
    kernel: int,
    *,
    strides: int = 1,
    padding: str = "same",
    normalize: bool = True,
) -> Any:
    """Appends convolution, normalisation (or a bias) and ReLU."""
    activations = SmallMapConv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=not normalize,  # normalisation would remove a bias at once
        kernel_initializer=uniform_initializer(),
        name=name,
    )(activations)
    if normalize:
        activations = batch_normalization(f"{name}_norm")(activations)
    return layers.ReLU(name=f"{name}_relu")(activations)


def _finish(
    inputs: Any, activations: Any, name: str, input_size: int | None, side: int, num_features: int
) -> keras.Model:
    """Appends fc6 over the pooled map, `side` pixels a side, and closes the model.

    On patches it is a dense layer: the convolution over the whole map is the same function, but
    its gradients take ten times as long on a CPU.
    """
    options = {"use_bias": False, "kernel_initializer": uniform_initializer(), "name": "fc6"}
    if input_size is None:
        activations = layers.Conv2D(num_features, side, padding="valid", **options)(activations)
    else:
        flat = layers.Flatten(name="flat")(activations)
        activations = layers.Dense(num_features, **options)(flat)
    activations = batch_normalization("fc6_norm")(activations)
    return keras.Model(inputs, layers.ReLU(name="fc6_relu")(activations), name=name)


def _check_size(input_size: int | None, multiple: int) -> int:
    """Gives the patch side that a network is built for; its fully convolutional form's is 96."""
    if input_size is None:
        return 96
    if input_size < multiple or input_size % multiple:
        raise ValueError(
            f"`input_size` must be a multiple of {multiple}, or None for the fully convolutional "
            f"form. Received: input_size={input_size}"
        )
    return input_size


def alexnet(
    preset: str = "released",
    *,
    input_size: int | None = 96,
    num_features: int = 4096,
    patch_size: int | None = None,
) -> keras.Model:
    """Gives the papers' AlexNet-style network, conv1 to fc6, without groups.

    Args:
        preset: `"released"` (conv2: 256 filters, stride 1; normalisation on conv3-5 and fc6) or
            `"paper"` (conv2: 384 filters, stride 2 as figure 3 prints; all layers normalised).
        input_size: side of the input in pixels (a multiple of 32), or None for the fully
            convolutional form.
        num_features: width of fc6.
        patch_size: the side whose fc6 the fully convolutional form has, 96 if None.

    Returns:
        A `keras.Model`, float32 `[batch, size, size, 3]` -> `[batch, num_features]`, at least 0.

    Raises:
        ValueError: if `preset` is unknown or `input_size` no multiple of 32.

    Reference:
        Doersch, Gupta, Efros 2015, figure 3, and the released network.
    """
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {PRESETS}. Received: preset={preset!r}")
    side = _check_size(input_size if patch_size is None else patch_size, 32)
    conv2_filters, conv2_stride = _CONV2[preset]
    normalized = _NORMALIZED[preset]
    inputs = keras.Input((input_size, input_size, 3), name="patches")
    flow = layers.ZeroPadding2D(5, name="conv1_pad")(inputs)
    flow = _convolve(
        flow, "conv1", 96, 11, strides=4, padding="valid", normalize="conv1" in normalized
    )
    flow = CeilMaxPooling2D(name="pool1")(flow)
    flow = LocalResponseNormalization(name="norm1")(flow)
    flow = _convolve(
        flow, "conv2", conv2_filters, 5, strides=conv2_stride, normalize="conv2" in normalized
    )
    flow = CeilMaxPooling2D(name="pool2")(flow)
    flow = LocalResponseNormalization(name="norm2")(flow)
    for name, filters in (("conv3", 384), ("conv4", 384), ("conv5", 256)):
        flow = _convolve(flow, name, filters, 3)
    flow = CeilMaxPooling2D(name="pool5")(flow)
    pooled = _pooled_side(side // 4, conv2_stride)
    return _finish(inputs, flow, "alexnet", input_size, pooled, num_features)


def _pooled_side(conv1_side: int, conv2_stride: int) -> int:
    """Gives the side of pool5 from conv1's."""

    def pool(side: int) -> int:
        return (side - 2) // 2 + 1

    conv2_side = -(-pool(conv1_side) // conv2_stride)
    return pool(pool(conv2_side))


def vgg16(
    *, input_size: int | None = 96, num_features: int = 4096, patch_size: int | None = None
) -> keras.Model:
    """Gives the 13 convolutions of VGG-16 and fc6, normalised throughout.

    Args:
        input_size: side of the input in pixels (a multiple of 32), or None for the fully
            convolutional form.
        num_features: width of fc6.
        patch_size: the side whose fc6 the fully convolutional form has, 96 if None.

    Returns:
        A `keras.Model`, float32 `[batch, size, size, 3]` -> `[batch, num_features]`, at least 0.

    Raises:
        ValueError: if `input_size` is no multiple of 32.

    Reference:
        Simonyan, Zisserman 2015, configuration D; Doersch, Gupta, Efros 2015, section 4.3.
    """
    side = _check_size(input_size if patch_size is None else patch_size, 32)
    inputs = keras.Input((input_size, input_size, 3), name="patches")
    flow = inputs
    blocks = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
    for block, (depth, filters) in enumerate(blocks, start=1):
        for layer in range(1, depth + 1):
            flow = _convolve(flow, f"conv{block}_{layer}", filters, 3)
        flow = layers.MaxPooling2D(2, name=f"pool{block}")(flow)
    return _finish(inputs, flow, "vgg16", input_size, side // 32, num_features)


def compact(
    *,
    input_size: int | None = 96,
    num_features: int = 512,
    width: int = 48,
    patch_size: int | None = None,
) -> keras.Model:
    """Gives a small network for minutes of training on a small machine (ours, in no paper).

    Args:
        input_size: side of the input in pixels (a multiple of 32), or None for the fully
            convolutional form.
        num_features: width of fc6.
        width: filters of the first convolution; the others have 2, 4 and 4 times as many.
        patch_size: the side whose fc6 the fully convolutional form has, 96 if None.

    Returns:
        A `keras.Model`, float32 `[batch, size, size, 3]` -> `[batch, num_features]`, at least 0.

    Raises:
        ValueError: if `input_size` is no multiple of 32.
    """
    side = _check_size(input_size if patch_size is None else patch_size, 32)
    inputs = keras.Input((input_size, input_size, 3), name="patches")
    flow = _convolve(inputs, "conv1", width, 8, strides=4)
    for stage, filters in ((2, 2 * width), (3, 4 * width), (4, 4 * width)):
        flow = _convolve(flow, f"conv{stage}", filters, 3)
        flow = layers.MaxPooling2D(2, name=f"pool{stage}")(flow)
    return _finish(inputs, flow, "compact", input_size, side // 32, num_features)


def small(
    *,
    input_size: int | None = 32,
    num_features: int = 512,
    width: int = 64,
    patch_size: int | None = None,
) -> keras.Model:
    """Gives a network for patches of 16 to 64 pixels on a small machine (ours, in no paper).

    Args:
        input_size: side of the input in pixels, at least 16, or None for the fully convolutional
            form.
        num_features: width of fc6.
        width: filters of the first convolution; the others have 2 and 4 times as many.
        patch_size: the side whose fc6 the fully convolutional form has, 32 if None.

    Returns:
        A `keras.Model`, float32 `[batch, size, size, 3]` -> `[batch, num_features]`, at least 0.

    Raises:
        ValueError: if `input_size` is under 16.
    """
    sides = (patch_size, input_size)
    side = next((given for given in sides if given is not None), 32)
    if side < 16:
        raise ValueError(
            "`input_size` and `patch_size` must be at least 16. Received: "
            f"input_size={input_size}, patch_size={patch_size}"
        )
    inputs = keras.Input((input_size, input_size, 3), name="patches")
    flow = _convolve(inputs, "conv1", width, 4, strides=2)
    side = -(-side // 2)
    for stage, filters in ((2, 2 * width), (3, 4 * width)):
        flow = _convolve(flow, f"conv{stage}", filters, 3)
        flow = layers.MaxPooling2D(2, name=f"pool{stage}")(flow)
        side //= 2
    return _finish(inputs, flow, "small", input_size, side, num_features)


BACKBONES: dict[str, Callable[..., keras.Model]] = {
    "alexnet": alexnet,
    "vgg16": vgg16,
    "compact": compact,
    "small": small,
}
