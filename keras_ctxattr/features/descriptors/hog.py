"""Histograms of oriented gradients, of many patches at once."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_ctxattr.features.descriptors.base import Descriptor, settings_of

_EPSILON = 1e-5  # scikit-image's, in the norm of a block
_CLIP = 0.2  # of L2-Hys
_CHUNK_PIXELS = 2**15  # worked on at a time: what fits the cache is 3 times faster


@dataclasses.dataclass(frozen=True)
class HOG(Descriptor):
    """Histograms of oriented gradients (HOG), with the values of `skimage.feature.hog`.

    Gradients are central differences of the strongest colour channel; every pixel votes with its
    magnitude for one of the unsigned orientations; cells are averaged, blocks of neighbouring cells
    normalised (L2-Hys). All patches of a call are described together by table look-up and a
    weighted count, in a fifth of the time that scikit-image takes for one after the other.

    Args:
        size: Side of a patch in pixels, at least `cell * block`.
        cell: Side of a cell in pixels; None takes 8 under 64 pixels, else `size // 6`.
        orientations: Bins of 0...180 degrees.
        block: Cells along the side of a block.

    Reference:
        Dalal and Triggs 2005.

    Example:
        >>> HOG(32).num_features, HOG(96).num_features, HOG(96, cell=12).num_features
        (324, 900, 1764)
    """

    size: int = 32
    cell: int | None = None
    orientations: int = 9
    block: int = 2

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.cell is None:
            object.__setattr__(self, "cell", 8 if self.size < 64 else self.size // 6)
        if min(self.cells_per_side, self.orientations, self.block) < 1 or self.blocks_per_side < 1:
            raise ValueError(
                "`size` must hold a block of `block` x `block` cells, and all must be at least 1. "
                f"Received: size={self.size}, cell={self.cell}, "
                f"orientations={self.orientations}, block={self.block}"
            )

    @property
    def cells_per_side(self) -> int:
        """Whole cells along the side of a patch."""
        return self.size // self.cell if self.cell and self.cell > 0 else 0

    @property
    def blocks_per_side(self) -> int:
        """Overlapping blocks along the side of a patch."""
        return self.cells_per_side - self.block + 1

    @property
    def num_features(self) -> int:
        """Length of a vector."""
        return self.blocks_per_side**2 * self.block**2 * self.orientations

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return settings_of(self)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches uint8 `[b, size, size, 3]`: float32 `[b, num_features]`."""
        vectors = np.empty((len(pixels), self.num_features), np.float32)
        chunk = max(1, _CHUNK_PIXELS // self.size**2)
        for start in range(0, len(pixels), chunk):
            vectors[start : start + chunk] = self._describe(pixels[start : start + chunk])
        return vectors

    def _describe(self, pixels: np.ndarray) -> np.ndarray:
        histograms = self.count_gradients(pixels)
        blocks = np.lib.stride_tricks.sliding_window_view(histograms, [self.block] * 2, (1, 2))
        # [patch, block row, block column, cell row, cell column, orientation]
        blocks = np.moveaxis(blocks, 3, -1)
        flat = blocks.reshape(-1, self.block**2 * self.orientations)
        return _normalize(flat).reshape(len(pixels), self.num_features)

    def count_gradients(self, pixels: np.ndarray) -> np.ndarray:
        """Gives the histogram of each cell of images uint8 `[b, height, width, 3]`.

        Returns:
            Float64 `[b, cell row, cell column, orientation]`, means over a cell's pixels; pixels
            beyond the last whole cell are left out.
        """
        cell, count = int(self.cell or 0), len(pixels)
        rows, columns = pixels.shape[1] // cell, pixels.shape[2] // cell
        bins, magnitudes = _vote_tables(self.orientations)
        votes = _strongest_gradients(pixels)[:, : rows * cell, : columns * cell]
        down, across = np.arange(rows * cell) // cell, np.arange(columns * cell) // cell
        cells = (np.arange(count)[:, None, None] * rows + down[:, None]) * columns + across
        places = cells * self.orientations + bins[votes]
        num_bins = count * rows * columns * self.orientations
        sums = np.bincount(places.ravel(), magnitudes[votes].ravel(), num_bins)
        return sums.reshape(count, rows, columns, self.orientations) / cell**2


def describe_whole(descriptor: HOG, image: np.ndarray) -> np.ndarray:
    """Describes every patch of an image whose corner is a cell's, in one pass over the image.

    Gradients at a patch's border see what lies beyond it, where a patch alone has none.

    Args:
        descriptor: what describes the patches.
        image: uint8 `[height, width, 3]`, both sides at least the descriptor's `size`.

    Returns:
        Float32 `[rows, columns, num_features]`, neighbours `descriptor.cell` pixels apart.
    """
    histograms = descriptor.count_gradients(image[None])
    steps = descriptor.blocks_per_side
    window = np.lib.stride_tricks.sliding_window_view
    blocks = window(histograms[0], [descriptor.block] * 2, (0, 1))  # [row, column, bin, y, x]
    flat = np.moveaxis(blocks, 2, -1).reshape(-1, descriptor.block**2 * descriptor.orientations)
    normal = _normalize(flat).astype(np.float32).reshape(*blocks.shape[:2], -1)
    patches = np.moveaxis(window(normal, [steps] * 2, (0, 1)), 2, -1)
    return patches.reshape(*patches.shape[:2], descriptor.num_features)


def _strongest_gradients(pixels: np.ndarray) -> np.ndarray:
    """Gives the gradient of each pixel's strongest channel as a place in the vote tables.

    Args:
        pixels: uint8 `[b, height, width, 3]`.

    Returns:
        Int32 `[b, height, width]`: (vertical + 255) * 511 + horizontal + 255.
    """
    channels = np.moveaxis(pixels, -1, 0).astype(np.int32)  # [channel, patch, row, column]
    vertical, horizontal = np.zeros_like(channels), np.zeros_like(channels)
    vertical[:, :, 1:-1] = channels[:, :, 2:] - channels[:, :, :-2]
    horizontal[..., 1:-1] = channels[..., 2:] - channels[..., :-2]
    strengths = vertical**2 + horizontal**2
    places = (vertical + 255) * 511 + horizontal + 255
    strongest, best = strengths[0], places[0]
    for strength, place in zip(strengths[1:], places[1:], strict=True):
        is_stronger = strength > strongest  # the first of equal ones stays, as argmax has it
        strongest = np.where(is_stronger, strength, strongest)
        best = np.where(is_stronger, place, best)
    return best


@functools.cache
def _vote_tables(orientations: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the bin and the magnitude of every gradient that bytes can have, `[511 * 511]`."""
    steps = np.arange(-255, 256, dtype=np.float64)
    vertical, horizontal = steps[:, None], steps[None, :]
    angles = np.rad2deg(np.arctan2(vertical, horizontal)) % 180
    edges = 180.0 / orientations * np.arange(1, orientations)
    bins = np.searchsorted(edges, angles.ravel(), side="right")
    return bins, np.hypot(vertical, horizontal).ravel()


def _normalize(blocks: np.ndarray) -> np.ndarray:
    """Brings blocks `[n, values]` to length 1, clips them, and does so again; flat ones stay 0."""
    clipped = np.minimum(blocks / _norms(blocks), _CLIP)
    return clipped / _norms(clipped)


def _norms(blocks: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(blocks**2, axis=1, keepdims=True) + _EPSILON**2)
