"""Cutting patches out of canvases, on the device."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PatchCutter(keras.layers.Layer):
    """Cuts square patches out of flat canvases, each at a jittered corner.

    A *canvas* holds one image as its rows of pixels, one after the other, padded at the end: every
    aspect ratio then fits the same static shape, and nothing is spent on empty margins. Jitter is
    part of how pairs are sampled, not an augmentation: it acts in evaluation too.

    Call arguments:
        canvases: uint8 `[images, pixels, 3]`, image rows concatenated, zero-padded.
        sizes: int32 `[images, 2]`, (height, width) in pixels; `height * width <= pixels`.
        corners: int32 `[patches, 3]`, (image, row, column) of each patch's upper left pixel
            before jitter.

    Returns:
        uint8 `[patches, patch_size, patch_size, 3]`.

    Args:
        patch_size: side of a patch in pixels.
        jitter: largest shift of a corner per axis, in pixels (0 to half the gap between patches);
            the shift is a uniform integer in -jitter ... jitter, and a shifted patch is moved back
            into its image.
        seed: seed of the jitter, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `patch_size` is not positive or `jitter` is negative.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1 ("jitter"); clamping as in the released code.
    """

    def __init__(
        self, patch_size: int = 96, jitter: int = 7, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if patch_size < 1 or jitter < 0:
            raise ValueError(
                "`patch_size` must be at least 1 and `jitter` at least 0. "
                f"Received: patch_size={patch_size}, jitter={jitter}"
            )
        self.patch_size = patch_size
        self.jitter = jitter
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, canvases: Any, sizes: Any, corners: Any) -> Any:
        """Gives the patches at the jittered corners."""
        image, corner = corners[:, 0], corners[:, 1:]
        size = ops.take(sizes, image, axis=0)  # [patch, axis]
        corner = self._shift(corner, size)
        num_pixels = canvases.shape[1]
        start = image * num_pixels + corner[:, 0] * size[:, 1] + corner[:, 1]
        steps = ops.arange(self.patch_size, dtype="int32")
        rows = steps[None, :] * size[:, 1:]  # [patch, row]
        index = start[:, None, None] + rows[:, :, None] + steps[None, None, :]
        return ops.take(ops.reshape(canvases, (-1, canvases.shape[-1])), index, axis=0)

    def _shift(self, corner: Any, size: Any) -> Any:
        if self.jitter:
            shift = keras.random.randint(
                ops.shape(corner), -self.jitter, self.jitter + 1, seed=self.seed_generator
            )
            corner = corner + ops.cast(shift, "int32")
        return ops.clip(corner, 0, size - self.patch_size)

    def compute_output_spec(self, canvases: Any, sizes: Any, corners: Any) -> keras.KerasTensor:
        """Gives the shape and dtype of the patches."""
        side = self.patch_size
        return keras.KerasTensor(
            (corners.shape[0], side, side, canvases.shape[-1]), dtype=canvases.dtype
        )

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {"patch_size": self.patch_size, "jitter": self.jitter, "seed": self.seed}
        return {**super().get_config(), **config}
