"""Normalisation of patches and of activations."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ctxattr.layers.replicas import mean_over_replicas

IMAGENET_MEAN = (122.7, 116.7, 104.0)  # RGB, over the training images of ILSVRC 2012


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ContrastNormalization(keras.layers.Layer):
    """Brings every patch to a root mean square of 50, on the 0-255 scale.

    Call arguments:
        patches: float32 `[patches, height, width, channels]` on the 0-255 scale.

    Returns:
        float32, the shape of `patches`: `patches / max(RMS, 1e-3) * 50`, the RMS over all pixels
        and channels of one patch.

    Args:
        subtract_mean: whether each channel first loses its mean over the patch.
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        The code released with Doersch, Gupta, Efros 2015.
    """

    target = 50.0
    smallest = 1e-3

    def __init__(self, subtract_mean: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.subtract_mean = subtract_mean

    def call(self, patches: Any) -> Any:
        """Gives the patches at unit contrast times 50."""
        # Row by row: summed in one go, the pixels of a photograph lose up to 0.1 of 255 to float32.
        if self.subtract_mean:
            row_means = ops.mean(patches, axis=2, keepdims=True)
            patches = patches - ops.mean(row_means, axis=1, keepdims=True)
        row_powers = ops.mean(ops.square(patches), axis=(2, 3), keepdims=True)
        power = ops.mean(row_powers, axis=1, keepdims=True)
        # Below the smallest RMS the slope of the square root would be infinite.
        rms = ops.sqrt(ops.maximum(power, self.smallest**2))
        return patches * (self.target / rms)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "subtract_mean": self.subtract_mean}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class MeanSubtraction(keras.layers.Layer):
    """Subtracts the data set's mean colour from every pixel.

    Call arguments:
        patches: float32 `[patches, height, width, 3]` on the 0-255 scale.

    Returns:
        float32, the shape of `patches`.

    Args:
        mean: mean of each channel, 0 to 255.
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, "Implementation Details" (1).
    """

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if len(mean) != 3:
            raise ValueError(f"`mean` must have one value a channel (3). Received: mean={mean}")
        self.mean = tuple(float(value) for value in mean)

    def call(self, patches: Any) -> Any:
        """Gives the patches around the mean colour."""
        return patches - ops.cast(np.array(self.mean, "float32"), patches.dtype)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by (1 + alpha / size * sum of squares over `size` channels)**0.75.

    Equals `tf.nn.lrn(x, depth_radius=size // 2, bias=1, alpha=alpha / size, beta=0.75)`, which
    exists for one backend only.

    Call arguments:
        activations: float `[batch, height, width, channels]`.

    Returns:
        float, the shape of `activations`.

    Args:
        size: number of neighbouring channels, odd.
        alpha: strength; divided by `size`, as Caffe does.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `size` is even or not positive.

    Reference:
        Krizhevsky, Sutskever, Hinton 2012, section 3.3; parameters as Caffe reads them.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"`size` must be odd and positive. Received: size={size}")
        self.size = size
        self.alpha = alpha

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Prepares the band matrix that sums over neighbouring channels."""
        channel = np.arange(input_shape[-1])
        band = np.abs(channel[:, None] - channel[None, :]) <= self.size // 2
        self._band = band.astype("float32") * (self.alpha / self.size)

    def call(self, activations: Any) -> Any:
        """Gives the normalised activations."""
        # The sum is a tiny addition to 1: half precision would lose it.
        precise = ops.cast(activations, "float32")
        base = 1 + ops.matmul(ops.square(precise), ops.convert_to_tensor(self._band))
        root = ops.rsqrt(base)
        scale = root * ops.sqrt(root)  # base ** -0.75
        return ops.cast(precise * scale, activations.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the shape of the activations, unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class WithinChannelNormalization(keras.layers.Layer):
    """Divides each activation by (1 + alpha * mean square of its `size` x `size` square)**beta.

    Call arguments:
        activations: float `[batch, height, width, channels]`.

    Returns:
        float: the shape of `activations`; of padding `"valid"`, `size // 2` less on every side.

    Args:
        size: side of the square, odd.
        alpha: strength.
        beta: power.
        padding: `"same"`: squares are filled up with zeros beyond the edges; or `"valid"`: only
            cells whose square lies inside are given.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `size` is even or not positive, or the padding is unknown.

    Reference:
        Caffe's local response normalisation within channels; Shen et al. 2015, "DeepContour".
    """

    def __init__(
        self,
        size: int = 3,
        alpha: float = 5e-5,
        beta: float = 0.75,
        padding: str = "same",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0 or padding not in ("same", "valid"):
            raise ValueError(
                "`size` must be odd and positive and `padding` same or valid. "
                f"Received: size={size}, padding={padding!r}"
            )
        self.size, self.alpha, self.beta, self.padding = size, alpha, beta, padding

    def call(self, activations: Any) -> Any:
        """Gives the normalised activations."""
        # The mean is a tiny addition to 1: half precision would lose it.
        precise = ops.cast(activations, "float32")
        squares, margin = ops.square(precise), self.size // 2
        if self.padding == "same":
            squares = ops.pad(squares, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        elif margin:
            precise = precise[:, margin:-margin, margin:-margin]
        means = ops.average_pool(squares, self.size, strides=1, padding="valid")
        return ops.cast(precise * (1 + self.alpha * means) ** -self.beta, activations.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the shape of what is left."""
        lost = 0 if self.padding == "same" else self.size - 1
        batch, *sides, channels = input_shape
        return (batch, *(None if side is None else side - lost for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        own = {name: getattr(self, name) for name in ("size", "alpha", "beta", "padding")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class FeatureScaling(keras.layers.Layer):
    """Centres features, and divides all by one number, to a mean variance of 1 per feature.

    Mean and variance are running ones over the batches of all replicas, in training and after: what
    a batch lacks changes little, and a feature means the same to the next layer at both times.

    Call arguments:
        features: float `[batch, num_features]`.
        training: whether the running mean and variance move towards the batch's.

    Returns:
        float32 `[batch, num_features]`.

    Args:
        momentum: what is left of the running values after a batch, 0 to 1.
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, takes features to be of zero mean.
    """

    smallest = 1e-12

    def __init__(self, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be 0 to 1. Received: momentum={momentum}")
        self.momentum = momentum

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the running mean, and the running variance, one number."""
        self.mean = self.add_weight(
            name="mean", shape=(input_shape[-1],), initializer="zeros", trainable=False
        )
        self.variance = self.add_weight(
            name="variance", shape=(), initializer="ones", trainable=False
        )

    def set_statistics(self, mean: Any, variance: float) -> None:
        """Takes the mean float `[num_features]`, and the mean over the features' variances."""
        self.mean.assign(mean)
        self.variance.assign(variance)

    def call(self, features: Any, training: bool | None = None) -> Any:
        """Gives the centred and scaled features."""
        features = ops.cast(features, "float32")
        if training:
            fixed = ops.stop_gradient(features)
            mean = mean_over_replicas(ops.mean(fixed, axis=0))
            variance = mean_over_replicas(ops.mean(ops.square(fixed - mean)))
            rest = 1 - self.momentum
            self.mean.assign(self.momentum * self.mean + rest * mean)
            self.variance.assign(self.momentum * self.variance + rest * variance)
        return (features - self.mean) * ops.rsqrt(ops.maximum(self.variance, self.smallest))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the shape of the features, unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum}
