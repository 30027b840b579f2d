"""Where the patches of a photograph lie: on a lattice at each of several scales."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

_MAX_PIXELS = 4_000_000

MAX_ASPECT = 10
"""Longer side of a photograph divided by its shorter one, at most: a thinner one would be enlarged
until its shorter side holds a constellation, and have more patches than ten others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lattice:
    """How photographs are scaled, and where their patches lie.

    A photograph is scaled until the last row and column of patches end at its edges: each side is
    off its own proportions by half a stride at most. Scales at which no 2 x 2 patches side by side
    fit are left out, but the finest: a photograph too thin for them becomes larger than that area.

    Attributes:
        patch_size: Side of a patch in pixels of the scaled photograph.
        stride: Pixels between patches; divides `patch_size`.
        num_pixels: About the area of a photograph at the finest scale.
        scales: Sides at each scale as shares of those at the finest, falling from 1.

    Raises:
        ValueError: If a number is impossible.
    """

    patch_size: int = 96
    stride: int = 32
    num_pixels: int = 300_000
    scales: tuple[float, ...] = (1.0, 0.71, 0.5)

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.stride < 1 or self.patch_size < 1 or self.patch_size % self.stride:
            raise ValueError(
                "`stride` must divide `patch_size`. "
                f"Received: stride={self.stride}, patch_size={self.patch_size}"
            )
        if not self.patch_size**2 <= self.num_pixels <= _MAX_PIXELS:
            raise ValueError(
                f"`num_pixels` must be at least a patch, {self.patch_size**2}, and at most "
                f"{_MAX_PIXELS}. Received: {self.num_pixels}"
            )
        steps = [1.0, *self.scales]
        pairs = zip(steps, self.scales, strict=False)
        if self.scales[:1] != (1.0,) or any(b > a or b <= 0 for a, b in pairs):
            raise ValueError(f"`scales` must fall from 1 and be over 0. Received: {self.scales}")

    @property
    def steps(self) -> int:
        """Rows, or columns, from a patch to the one that touches it."""
        return self.patch_size // self.stride

    def shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Gives rows and columns of patches at each scale that a photograph has."""
        least = 2 * self.patch_size / min(height, width)
        finest = max(math.sqrt(self.num_pixels / (height * width)), least)
        found: list[tuple[int, int]] = []
        for scale in self.scales:
            counts = [
                round((side * finest * scale - self.patch_size) / self.stride) + 1
                for side in (height, width)
            ]
            if min(counts) > self.steps:
                found.append((counts[0], counts[1]))
        return found

    def sides(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Gives height and width in pixels of a photograph with so many rows and columns."""
        rows, columns = shape
        return (
            self.patch_size + (rows - 1) * self.stride,
            self.patch_size + (columns - 1) * self.stride,
        )

    def boxes(self, height: int, width: int) -> np.ndarray:
        """Gives the patches of a photograph: scale by scale, row by row.

        Args:
            height: Of the upright photograph in pixels.
            width: Likewise.

        Returns:
            float32 `[patches, 4]`: left, top, right, bottom in pixels of the photograph; not to
            be written to.
        """
        return _boxes(self, height, width)

    def constellations(self, height: int, width: int) -> list[np.ndarray]:
        """Gives all constellations of a photograph: 2 x 2 patches side by side.

        Returns:
            For each scale int64 `[n, 4]`, patches in the order of `boxes`: upper left, upper right,
            lower left, lower right.
        """
        found, first = [], 0
        for rows, columns in self.shapes(height, width):
            numbers = first + np.arange(rows * columns).reshape(rows, columns)
            low, high = slice(None, -self.steps), slice(self.steps, None)
            corners = [numbers[one, other] for one in (low, high) for other in (low, high)]
            found.append(np.stack([part.ravel() for part in corners], axis=1))
            first += rows * columns
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return dataclasses.asdict(self)


@functools.lru_cache(maxsize=512)  # photographs come in few sizes, and are asked for often
def _boxes(lattice: Lattice, height: int, width: int) -> np.ndarray:
    parts = []
    for shape in lattice.shapes(height, width):
        places = np.indices(shape).reshape(2, -1).T * lattice.stride  # (row, column)
        low = np.concatenate([places[:, ::-1], places[:, ::-1] + lattice.patch_size], axis=1)
        tall, wide = lattice.sides(shape)
        parts.append(low * np.tile([width / wide, height / tall], 2))
    boxes = np.concatenate(parts).astype(np.float32)
    boxes.setflags(write=False)
    return boxes
