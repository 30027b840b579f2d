"""Regions of photographs brought to one size, on the device."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class RegionWarping(keras.layers.Layer):
    """Cuts regions out of flat canvases and warps each to a square, with some of what is around.

    Width and height are scaled apart, so that the region itself fills the square but for `context`
    pixels on each side. Values between pixels are interpolated linearly; nothing is smoothed before
    it shrinks. Computes in float32 under every dtype policy.

    Call arguments:
        canvases: uint8 (or float32 on the 0-255 scale) `[images, pixels, 3]`, the rows of each
            image one after the other, zero-padded, as `PatchCutter` takes them.
        sizes: int32 `[images, 2]`, (height, width) in pixels; `height * width <= pixels`.
        regions: float32 `[crops, 4]`, (left, top, right, bottom) edges in pixels; they may reach
            out of the image. Where left is more than right, the crop is mirrored.
        places: int32 `[crops]`, the image that each is of.

    Returns:
        Crops float32 `[crops, size, size, 3]`, 0 to 255, and where they show the image, float32
        `[crops, size, size, 1]`: 1 inside, 0 outside, where the crop is 0.

    Args:
        size: side of a crop in pixels.
        context: pixels of a crop's side, at each end, that lie around the region; less than half.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Girshick et al. 2014, appendix A, "warp" with p = 16. The released code, too, interpolates
        without smoothing; it rounds the enlarged region to whole pixels, which we do not.
    """

    def __init__(self, size: int = 227, context: int = 16, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if size < 1 or not 0 <= 2 * context < size:
            raise ValueError(
                "`size` must be at least 1 and `context` 0 to less than half of it. "
                f"Received: size={size}, context={context}"
            )
        self.size, self.context = int(size), int(context)

    def build(
        self, canvases_shape: Any, sizes_shape: Any, regions_shape: Any, places_shape: Any
    ) -> None:
        """Builds nothing: there are no weights."""

    def call(self, canvases: Any, sizes: Any, regions: Any, places: Any) -> tuple[Any, Any]:
        """Gives the crops, and where they show their image."""
        own = ops.take(ops.cast(sizes, "int32"), places, axis=0)  # [crop, (height, width)]
        rows, in_rows = self._positions(regions[:, 1], regions[:, 3], own[:, 0])
        columns, in_columns = self._positions(regions[:, 0], regions[:, 2], own[:, 1])
        first_pixels = ops.cast(places, "int32") * ops.shape(canvases)[1]
        crops = _interpolate(canvases, first_pixels, own, rows, columns)
        inside = ops.cast(in_rows[:, :, None] & in_columns[:, None, :], "float32")[..., None]
        return crops * inside, inside

    def _positions(self, starts: Any, ends: Any, lengths: Any) -> tuple[Any, Any]:
        """Gives where pixels come from along an axis, `[crops, size]`, and if that is inside."""
        starts, ends = ops.cast(starts, "float32"), ops.cast(ends, "float32")
        enlarged = (ends - starts) / 2 * (self.size / (self.size - 2 * self.context))
        # -1 to 1, the same both ways: mirrored regions give mirrored crops to the last bit.
        offsets = (2 * np.arange(self.size, dtype="float32") + 1 - self.size) / self.size
        positions = ((starts + ends) / 2)[:, None] + enlarged[:, None] * offsets
        lengths = ops.cast(lengths, "float32")[:, None]
        return positions, (positions >= 0) & (positions <= lengths)

    def compute_output_shape(
        self, canvases_shape: Any, sizes_shape: Any, regions_shape: Any, places_shape: Any
    ) -> tuple[Any, Any]:
        """Gives the shapes of crops and masks."""
        del canvases_shape, sizes_shape, places_shape
        shape = (regions_shape[0], self.size, self.size)
        return (*shape, 3), (*shape, 1)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "context": self.context}


def _interpolate(canvases: Any, first_pixels: Any, sizes: Any, rows: Any, columns: Any) -> Any:
    """Reads canvases between pixels; beyond the centres of the border, the border.

    Args:
        canvases: `[images, pixels, 3]`.
        first_pixels: int32 `[crops]`, number of the first pixel of each one's image.
        sizes: int32 `[crops, 2]`, of its image.
        rows: float32 `[crops, size]`, in pixels from the image's upper edge.
        columns: float32 `[crops, size]`, from its left edge.
    """
    top, below, down = _neighbours(rows, sizes[:, :1])
    left, right, across = _neighbours(columns, sizes[:, 1:])
    pixels = ops.reshape(canvases, (-1, 3))

    def read(row: Any, column: Any) -> Any:
        starts = first_pixels[:, None] + row * sizes[:, 1:]
        return ops.cast(
            ops.take(pixels, starts[:, :, None] + column[:, None, :], axis=0), "float32"
        )

    across, down = across[:, None, :, None], down[:, :, None, None]
    upper, lower = read(top, left), read(below, left)
    upper = upper + (read(top, right) - upper) * across
    lower = lower + (read(below, right) - lower) * across
    return upper + (lower - upper) * down


def _neighbours(positions: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """Gives the two pixels beside each position, int32, and the share of the second."""
    last = ops.cast(lengths, "float32") - 1
    centred = ops.clip(positions - 0.5, 0.0, last)
    first = ops.floor(centred)
    second = ops.minimum(first + 1, last)
    return ops.cast(first, "int32"), ops.cast(second, "int32"), centred - first
