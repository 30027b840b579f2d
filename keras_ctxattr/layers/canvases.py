"""Normalisation of photographs, or crops of them, that do not fill their batch."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ctxattr.layers.augmentation import ColourProjection
from keras_ctxattr.layers.normalization import (
    IMAGENET_MEAN,
    ContrastNormalization,
    MeanSubtraction,
)

PRESETS = ("released", "paper", "unit", "none")
COLOURS = ("none", "project")


class _MaskedProcessing(keras.layers.Layer):
    """What is done to pixels that belong to a photograph; the others become 0."""

    def __init__(
        self,
        preset: str = "released",
        colour: str = "none",
        mean: Sequence[float] = IMAGENET_MEAN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        for name, value, choices in (("preset", preset, PRESETS), ("colour", colour, COLOURS)):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
        self.preset, self.colour, self.mean = preset, colour, tuple(float(one) for one in mean)
        self._subtract = MeanSubtraction(self.mean)
        self._project = ColourProjection(dtype="float32")

    def process(self, pixels: Any, inside: Any) -> Any:
        """Gives pixels float32 `[batch, height, width, 3]` where `inside` is 1, 0 elsewhere."""
        if self.preset == "unit":
            pixels = pixels / 255
        if self.preset == "paper":
            pixels = self._subtract(pixels)
        if self.colour == "project":
            pixels = self._project(pixels)
        pixels = pixels * inside
        return _normalize_contrast(pixels, inside) if self.preset == "released" else pixels

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {"preset": self.preset, "colour": self.colour, "mean": self.mean}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class CanvasProcessing(_MaskedProcessing):
    """Brings photographs to what a network sees; what pads them stays 0.

    Each photograph comes out as a module's own processing leaves it, whatever it is batched with.

    Call arguments:
        canvases: uint8 or float32 `[batch, height, width, 3]`, 0 to 255; the photograph is in the
            upper left corner.
        sizes: int32 `[batch, 2]`, the photograph's own height and width.

    Returns:
        float32 `[batch, height, width, 3]`.

    Args:
        preset: `"released"`: each channel loses its mean over the photograph, which is brought to
            a root mean square of 50; `"paper"`: the data set's mean colour is subtracted; `"unit"`:
            divided by 255, and `"none"`: left at 0 to 255, for networks that normalise by
            themselves.
        colour: `"none"`, or `"project"` to remove green against magenta.
        mean: mean colour of the data set, 0 to 255, for `"paper"`.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `preset` or `colour` is unknown.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, and the released code.
    """

    def build(self, canvases_shape: Any, sizes_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, canvases: Any, sizes: Any) -> Any:
        """Gives the photographs as the network sees them."""
        pixels = ops.cast(canvases, "float32")
        return self.process(pixels, _inside(pixels, sizes))

    def compute_output_shape(self, canvases_shape: Any, sizes_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the canvases, unchanged."""
        del sizes_shape
        return tuple(canvases_shape)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class CropProcessing(_MaskedProcessing):
    """Brings crops of photographs to what a network sees; what is outside the photograph stays 0.

    Each crop comes out as a patch does in training: preset `"released"` takes mean and contrast of
    each crop by itself, of what it shows of its photograph alone.

    Call arguments:
        crops: uint8 or float32 `[crops, height, width, 3]`, 0 to 255.
        inside: float32 `[crops, height, width, 1]`, 1 where a crop shows its photograph, else 0.

    Returns:
        float32 `[crops, height, width, 3]`.

    Args:
        preset: as for `CanvasProcessing`.
        colour: as for `CanvasProcessing`.
        mean: as for `CanvasProcessing`.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `preset` or `colour` is unknown.

    Reference:
        Doersch, Gupta, Efros 2015, sections 3.1 and 4.3, and the released code.
    """

    def build(self, crops_shape: Any, inside_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, crops: Any, inside: Any) -> Any:
        """Gives the crops as the network sees them."""
        return self.process(ops.cast(crops, "float32"), ops.cast(inside, "float32"))

    def compute_output_shape(self, crops_shape: Any, inside_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the crops, unchanged."""
        del inside_shape
        return tuple(crops_shape)


def _inside(canvases: Any, sizes: Any) -> Any:
    """Gives float32 `[batch, height, width, 1]`, 1 where there is a photograph."""
    height, width = ops.shape(canvases)[1:3]
    rows = ops.arange(height)[None] < ops.cast(sizes[:, :1], "int32")
    columns = ops.arange(width)[None] < ops.cast(sizes[:, 1:], "int32")
    return ops.cast(rows[:, :, None, None] & columns[:, None, :, None], "float32")


def _normalize_contrast(pixels: Any, inside: Any) -> Any:
    """Does what `ContrastNormalization` does, over the photograph alone; its padding is 0."""
    # A crop may lie outside altogether.
    count = ops.maximum(ops.sum(inside, axis=(1, 2, 3), keepdims=True), 1)
    # Row by row: summed in one go, the pixels of a photograph lose up to 0.1 of 255 to float32.
    row_sums = ops.sum(pixels, axis=2, keepdims=True) / count
    pixels = (pixels - ops.sum(row_sums, axis=1, keepdims=True)) * inside
    row_powers = ops.sum(ops.square(pixels), axis=(2, 3), keepdims=True) / (3 * count)
    power = ops.sum(row_powers, axis=1, keepdims=True)
    smallest = ContrastNormalization.smallest**2
    return pixels * (ContrastNormalization.target / ops.sqrt(ops.maximum(power, smallest)))
