"""One vector a photograph from a map: the maxima of its quadrants, or of a spatial pyramid."""

from typing import Any

from keras import ops

POOLINGS: dict[str, tuple[int, ...]] = {
    "whole": (1,),
    "quadrants": (2,),
    "pyramid": (1, 2, 4),
}
"""Name -> bins a side of each grid that is laid over the map."""


def bin_edges(num_cells: int, num_bins: int) -> list[tuple[int, int]]:
    """Divides the rows, or the columns, of a map into bins.

    Edges that fall within a cell are rounded outwards: bins are as even as can be, neighbours share
    the cell between them (the middle one of 5, for 2 bins), and a map of fewer cells than bins
    leaves none empty. So a mirrored map has mirrored bins.

    Args:
        num_cells: rows or columns, at least 1.
        num_bins: at least 1.

    Returns:
        The first cell of each bin, and the one after its last.

    Example:
        >>> bin_edges(6, 2), bin_edges(5, 2), bin_edges(1, 2)
        ([(0, 3), (3, 6)], [(0, 3), (2, 5)], [(0, 1), (0, 1)])
    """
    return [
        (number * num_cells // num_bins, -(-(number + 1) * num_cells // num_bins))
        for number in range(num_bins)
    ]


def pool_maps(maps: Any, grids: tuple[int, ...]) -> Any:
    """Gives the maxima of all bins of all grids.

    Args:
        maps: float `[batch, rows, columns, channels]`, rows and columns known.
        grids: bins a side of each grid, as in `POOLINGS`.

    Returns:
        Float `[batch, bins, channels]`: grid by grid, row by row.

    Reference:
        Lazebnik, Schmid, Ponce 2006, the pyramid; Coates, Lee, Ng 2011, the quadrants.
    """
    # `keras.layers.AdaptiveMaxPooling2D` has the same bins, but ends the process where a map has
    # fewer cells than bins (Keras 3.15).
    _, rows, columns, _ = maps.shape
    maxima = [
        ops.max(maps[:, top:bottom, left:right], axis=(1, 2))
        for size in grids
        for top, bottom in bin_edges(rows, size)
        for left, right in bin_edges(columns, size)
    ]
    return ops.stack(maxima, axis=1)
