"""Random downsampling and the two guards against chromatic aberration, on the device.

All layers work on float32 patches on the 0-255 scale, whatever the global dtype policy, and follow
Doersch, Gupta, Efros 2015, section 3.1; where the released code says more than the paper, the
argument's text says so.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

GREEN_MAGENTA_AXIS = (-1.0, 2.0, -1.0)


def resize_matrix(size: int, side: int) -> np.ndarray:
    """Gives the matrix that shrinks a line of `size` samples to `side` and enlarges it again.

    Shrinking weighs samples by a triangle as wide as the reduction (so nothing aliases), enlarging
    interpolates linearly; both align pixel areas, as `tf.image.resize(..., antialias=True)` does.

    Args:
        size: number of samples, at least 1.
        side: number of samples in between, 1 to `size`.

    Returns:
        float32 `[size, size]`, every row sums to 1.
    """
    scale = size / side
    samples = np.arange(size)
    centres = (np.arange(side) + 0.5) * scale - 0.5
    shrink = np.maximum(0, 1 - np.abs(samples[None, :] - centres[:, None]) / scale)
    enlarge = np.maximum(
        0, 1 - np.abs(np.arange(side)[None, :] - (samples[:, None] + 0.5) / scale + 0.5)
    )
    shrink /= shrink.sum(axis=1, keepdims=True)
    enlarge /= enlarge.sum(axis=1, keepdims=True)
    return (enlarge @ shrink).astype("float32")


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class RandomDownsampling(keras.layers.Layer):
    """Shrinks some patches to as little as 100 pixels and enlarges them again.

    It makes the features robust to pixelation. Only in training.

    Call arguments:
        patches: float32 `[patches, size, size, channels]`, `size` static.
        training: whether to downsample at all.

    Returns:
        float32, the shape of `patches`.

    Args:
        probability: share of the patches that are downsampled, 0 to 1 (released code: 1/3).
        min_side: smallest side in pixels; sides are drawn so that the number of pixels is uniform
            between `min_side**2` and `(size - 1)**2` (released code).
        seed: seed of the draws, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `probability` is not in [0, 1], or a patch is not larger than `min_side`.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, "Implementation Details".
    """

    def __init__(
        self,
        probability: float = 1 / 3,
        min_side: int = 10,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0 <= probability <= 1 or min_side < 1:
            raise ValueError(
                "`probability` must be between 0 and 1 and `min_side` at least 1. "
                f"Received: probability={probability}, min_side={min_side}"
            )
        self.probability = probability
        self.min_side = min_side
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Tabulates one resampling matrix for every side that can be drawn."""
        size = input_shape[1]
        if size is None or size != input_shape[2] or size <= self.min_side:
            raise ValueError(
                f"Patches must be square, of a static side above min_side={self.min_side}. "
                f"Received: shape {tuple(input_shape)}"
            )
        self._size = size
        # The last entry, the identity, serves the patches that stay as they are.
        sides = range(self.min_side, size + 1)
        self._matrices = np.stack([resize_matrix(size, side) for side in sides])

    def call(self, patches: Any, training: bool | None = None) -> Any:
        """Gives the patches, some of them downsampled."""
        if not training or self.probability == 0:
            return patches
        matrix = ops.take(ops.convert_to_tensor(self._matrices), self._draw(patches), axis=0)
        shape = ops.shape(patches)
        count, size, channels = shape[0], self._size, patches.shape[3]
        rows = ops.matmul(matrix, ops.reshape(patches, (count, size, size * channels)))
        columns = ops.transpose(ops.reshape(rows, (count, size, size, channels)), (0, 2, 1, 3))
        both = ops.matmul(matrix, ops.reshape(columns, (count, size, size * channels)))
        return ops.transpose(ops.reshape(both, (count, size, size, channels)), (0, 2, 1, 3))

    def _draw(self, patches: Any) -> Any:
        """Draws each patch's row of the table."""
        draws = keras.random.uniform((2, ops.shape(patches)[0]), seed=self.seed_generator)
        low, high = self.min_side**2, (self._size - 1) ** 2
        side = ops.cast(ops.sqrt(draws[0] * (high - low) + low), "int32")
        return ops.where(draws[1] < self.probability, side, self._size) - self.min_side

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Gives the shape of the patches, unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {"probability": self.probability, "min_side": self.min_side, "seed": self.seed}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ColourDropping(keras.layers.Layer):
    """Keeps one random colour channel of each patch and replaces the other two by faint noise.

    It hides chromatic aberration, which tells where on the lens a patch was. It is a property of
    the pretext task, not an augmentation: it acts in evaluation too.

    Call arguments:
        patches: float32 `[patches, height, width, 3]`.

    Returns:
        float32, the shape of `patches`.

    Args:
        noise: `"uniform"`: noise uniform in -0.5 ... 0.5, and the kept channel loses its mean over
            the patch (released code); `"gaussian"`: zero-mean noise whose standard deviation is
            1/100 of the kept channel's, which stays as it is (paper).
        seed: seed of the draws, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `noise` is neither of the two.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, "color dropping".
    """

    def __init__(self, noise: str = "uniform", seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if noise not in ("uniform", "gaussian"):
            raise ValueError(f'`noise` must be "uniform" or "gaussian". Received: noise={noise!r}')
        self.noise = noise
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, patches: Any) -> Any:
        """Gives the patches with one channel each."""
        count = ops.shape(patches)[0]
        channel = keras.random.randint((count,), 0, 3, seed=self.seed_generator)
        kept = ops.cast(ops.one_hot(channel, 3), "bool")[:, None, None, :]  # [patch, 1, 1, channel]
        if self.noise == "uniform":
            noise = keras.random.uniform(ops.shape(patches), -0.5, 0.5, seed=self.seed_generator)
            return ops.where(kept, patches - ops.mean(patches, axis=(1, 2), keepdims=True), noise)
        deviation = ops.where(kept, ops.std(patches, axis=(1, 2), keepdims=True), 0)
        noise = keras.random.normal(ops.shape(patches), seed=self.seed_generator)
        return ops.where(kept, patches, noise * ops.sum(deviation, axis=-1, keepdims=True) / 100)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ColourProjection(keras.layers.Layer):
    """Removes the green-magenta component of every pixel.

    Every pixel is multiplied by B = I - a'a / (aa') with a = [-1, 2, -1]. Deterministic.

    Call arguments:
        patches: float32 `[patches, height, width, 3]`.

    Returns:
        float32, the shape of `patches`.

    Args:
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, "projection".
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, patches: Any) -> Any:
        """Gives the patches without green against magenta."""
        axis = np.array(GREEN_MAGENTA_AXIS, "float32")
        matrix = np.eye(3, dtype="float32") - np.outer(axis, axis) / (axis @ axis)
        return ops.matmul(patches, ops.cast(matrix, patches.dtype))
