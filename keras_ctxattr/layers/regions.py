"""Max pooling of regions of a feature map, on the device."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class RegionMaxPooling2D(keras.layers.Layer):
    """Gives every region of a map as a grid of maxima: RoI max pooling.

    A region's edges are rounded to cells and cut off at the map's; it is divided into `size` x
    `size` bins whose own edges are rounded outwards, so that neighbours may share a cell; each bin
    gives its maximum.

    The maxima of all windows whose sides are powers of 2 are computed once for the map; any bin is
    covered by four of them. So a region costs four reads a bin, however large it is.

    Call arguments:
        maps: float `[batch, rows, columns, channels]`.
        regions: float32 `[batch, regions, 4]`, (left, top, right, bottom) edges in pixels.

    Returns:
        float `[batch, regions, size, size, channels]`. A bin too large for `max_cells` gives NaN.

    Args:
        size: bins a side.
        stride: pixels between the centres of neighbouring cells.
        offset: pixels from the image's edge to the first cell's; not 0 where the network does not
            pad its maps.
        max_cells: the longest side that a map may have; memory grows with its logarithm.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if a number is not positive, or the maps are known to be larger.

    Reference:
        Girshick 2015, section 2.1, and its released code, whose rounding this is. (There, a region
        is cut off after it is divided, which differs for regions that reach out of the image.)
    """

    def __init__(
        self,
        size: int = 6,
        stride: float = 16,
        offset: float = 0.0,
        max_cells: int = 64,
        **kwargs: Any,
    ) -> None:
        # In half precision, edges would be off by a pixel or two.
        super().__init__(**{"autocast": False, **kwargs})
        if size < 1 or stride <= 0 or max_cells < 1:
            raise ValueError(
                "`size` and `max_cells` must be at least 1 and `stride` over 0. "
                f"Received: size={size}, max_cells={max_cells}, stride={stride}"
            )
        self.size, self.max_cells = int(size), int(max_cells)
        self.stride, self.offset = float(stride), float(offset)
        # A bin is at most one cell longer than its share, rounded up.
        self._num_levels = int(np.log2(-(-self.max_cells // self.size) + 1)) + 1

    def build(self, maps_shape: Any, regions_shape: Any) -> None:
        """Refuses maps that are too large."""
        del regions_shape
        if max(side or 0 for side in maps_shape[1:3]) > self.max_cells:
            raise ValueError(
                f"Maps must be at most {self.max_cells} cells a side; raise `max_cells`. "
                f"Received: {list(maps_shape)}"
            )

    def call(self, maps: Any, regions: Any) -> Any:
        """Gives the maxima of every region's bins."""
        rows, columns = ops.shape(maps)[1:3]
        tables = _window_maxima(maps, self._num_levels)
        left, right = self._bins(regions, 0, columns)
        top, bottom = self._bins(regions, 1, rows)
        down, across = _level(bottom - top), _level(right - left)
        reads = [
            _read(tables, first_row, first_column, down, across)
            for first_row in (top, bottom - _power(down))
            for first_column in (left, right - _power(across))
        ]
        highest = ops.maximum(ops.maximum(reads[0], reads[1]), ops.maximum(reads[2], reads[3]))
        is_long = (down >= self._num_levels)[..., :, None] | (across >= self._num_levels)[
            ..., None, :
        ]
        return ops.where(is_long[..., None], ops.full_like(highest, float("nan")), highest)

    def _bins(self, regions: Any, axis: int, num_cells: Any) -> tuple[Any, Any]:
        """Gives each bin's first cell, and the one after its last, int32 `[batch, regions, size]`.

        The released code has pixels, both ends included: the right one is an edge less one.
        """
        edges = ops.cast(regions, "float32")
        limit = ops.cast(num_cells, "float32") - 1
        # Halves are rounded away from 0, as C does.
        first = ops.floor((edges[..., axis] - self.offset) / self.stride + 0.5)
        last = ops.floor((edges[..., axis + 2] - 1 - self.offset) / self.stride + 0.5)
        first, last = ops.clip(first, 0.0, limit), ops.clip(last, 0.0, limit)
        length = ops.maximum(last - first + 1, 1.0)[..., None]
        steps = ops.convert_to_tensor(np.arange(self.size, dtype="float32"))
        # Products of whole numbers are exact, and so are quotients that are whole.
        starts = first[..., None] + ops.floor(steps * length / self.size)
        ends = first[..., None] + ops.ceil((steps + 1) * length / self.size)
        return ops.cast(starts, "int32"), ops.cast(ends, "int32")

    def compute_output_shape(self, maps_shape: Any, regions_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the maxima."""
        return (*regions_shape[:2], self.size, self.size, maps_shape[-1])

    def compute_output_spec(self, maps: Any, regions: Any) -> Any:
        """Gives shape and dtype: the dtype is that of the maps, whatever the policy."""
        return keras.KerasTensor(self.compute_output_shape(maps.shape, regions.shape), maps.dtype)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        names = ("size", "stride", "offset", "max_cells")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _window_maxima(maps: Any, num_levels: int) -> Any:
    """Gives [batch, down, across, rows, columns, channels]: maxima of windows of 2**level a side.

    Each window starts at its cell; what reaches out of the map is cut off.
    """
    tall = [maps]
    for level in range(1, num_levels):
        tall.append(ops.maximum(tall[-1], _shift(tall[-1], 2 ** (level - 1), 1)))
    grown = []
    for table in tall:
        wide = [table]
        for level in range(1, num_levels):
            wide.append(ops.maximum(wide[-1], _shift(wide[-1], 2 ** (level - 1), 2)))
        grown.append(ops.stack(wide, axis=1))
    return ops.stack(grown, axis=1)


def _shift(table: Any, distance: int, axis: int) -> Any:
    """Gives what lies so many cells further on; past the end, the last cell."""
    size = ops.shape(table)[axis]
    places = ops.minimum(ops.arange(size) + distance, size - 1)
    return ops.take(table, places, axis=axis)


def _level(lengths: Any) -> Any:
    """Gives the largest power of 2 that is no longer than a bin."""
    # Half a cell keeps rounding from a power of 2.
    return ops.cast(ops.floor(ops.log2(ops.cast(lengths, "float32") + 0.5)), "int32")


def _power(levels: Any) -> Any:
    return ops.left_shift(ops.ones_like(levels), levels)


def _read(tables: Any, rows: Any, columns: Any, down: Any, across: Any) -> Any:
    """Reads a window for every bin: [batch, regions, size, size, channels]."""
    shape = ops.shape(tables)
    batch, num_levels, height, width = shape[0], shape[2], shape[3], shape[4]
    down, across = ops.minimum(down, num_levels - 1), ops.minimum(across, num_levels - 1)
    rows, columns = ops.clip(rows, 0, height - 1), ops.clip(columns, 0, width - 1)
    image = ops.reshape(ops.arange(batch), (-1, 1, 1, 1))
    table = (image * num_levels + down[..., :, None]) * num_levels + across[..., None, :]
    places = (table * height + rows[..., :, None]) * width + columns[..., None, :]
    return ops.take(ops.reshape(tables, (-1, shape[5])), places, axis=0)
