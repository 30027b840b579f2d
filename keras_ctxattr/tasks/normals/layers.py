"""Layers between photographs and normals: what a network sees, where its map lies, unit length."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_ctxattr.layers import CropProcessing
from keras_ctxattr.layers.normalization import IMAGENET_MEAN

_SMALLEST = 1e-6


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PhotographProcessing(layers.Layer):
    """Brings photographs that fill their batch to what a network sees; see `CropProcessing`.

    Call arguments:
        photographs: uint8 or float32 `[batch, height, width, 3]`, 0 to 255.

    Returns:
        float32 `[batch, height, width, 3]`.

    Args:
        preset: as for `CropProcessing`.
        colour: as for `CropProcessing`.
        mean: as for `CropProcessing`.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `preset` or `colour` is unknown.
    """

    def __init__(
        self,
        preset: str = "released",
        colour: str = "none",
        mean: Sequence[float] = IMAGENET_MEAN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._crops = CropProcessing(preset, colour, mean)
        self.preset, self.colour, self.mean = preset, colour, self._crops.mean

    def build(self, photographs_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, photographs: Any) -> Any:
        """Gives the photographs as the network sees them."""
        pixels = ops.cast(photographs, "float32")
        return self._crops(pixels, ops.ones_like(pixels[..., :1]))

    def compute_output_shape(self, photographs_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the photographs, unchanged."""
        return tuple(photographs_shape)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {"preset": self.preset, "colour": self.colour, "mean": self.mean}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class MapResizing(layers.Layer):
    """Interpolates a network's map linearly at every pixel of its photographs, where it belongs.

    Cell i of the map lies around pixel `offset + (i + 1/2) * stride - 1/2`; beyond the middles of
    the outermost cells their values go on.

    Call arguments:
        maps: float `[batch, rows, columns, channels]`.
        photographs: `[batch, height, width, ...]`, of which the size alone is taken.

    Returns:
        float32 `[batch, height, width, channels]`.

    Args:
        stride: pixels between the centres of neighbouring cells, over 0.
        offset: pixels from the photograph's edge to the first cell's.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `stride` is not over 0.
    """

    def __init__(self, stride: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if stride <= 0:
            raise ValueError(f"`stride` must be over 0. Received: stride={stride}")
        self.stride, self.offset = float(stride), float(offset)

    def build(self, maps_shape: Any, photographs_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, maps: Any, photographs: Any) -> Any:
        """Gives the map at the photographs' size."""
        maps = ops.cast(maps, "float32")
        height, width = ops.shape(photographs)[1:3]
        num_rows, num_columns = ops.shape(maps)[1:3]
        tall = ops.einsum("hr,brcd->bhcd", self._weights_of(height, num_rows), maps)
        return ops.einsum("wc,bhcd->bhwd", self._weights_of(width, num_columns), tall)

    def _weights_of(self, length: Any, num_cells: Any) -> Any:
        """Gives what each cell counts for at each pixel, float32 `[length, num_cells]`."""
        pixels = ops.cast(ops.arange(length), "float32")
        last = ops.cast(num_cells, "float32") - 1
        places = (pixels + 0.5 - self.offset) / self.stride - 0.5
        places = ops.minimum(ops.maximum(places, 0.0), last)
        cells = ops.cast(ops.arange(num_cells), "float32")
        return ops.relu(1 - ops.abs(places[:, None] - cells[None]))

    def compute_output_shape(self, maps_shape: Any, photographs_shape: Any) -> tuple[Any, ...]:
        """Gives the photographs' size with the map's channels."""
        return (*photographs_shape[:3], maps_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "stride": self.stride, "offset": self.offset}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class UnitLength(layers.Layer):
    """Divides vectors by their lengths, in float32.

    Call arguments:
        vectors: float `[..., channels]`.

    Returns:
        float32 `[..., channels]`, of length 1; shorter where the vector is all but 0.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, vectors_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, vectors: Any) -> Any:
        """Gives the unit vectors."""
        vectors = ops.cast(vectors, "float32")
        # The gradient of a length is not finite at 0, that of its square is.
        squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        return vectors * ops.rsqrt(ops.maximum(squares, _SMALLEST**2))

    def compute_output_shape(self, vectors_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the vectors, unchanged."""
        return tuple(vectors_shape)
