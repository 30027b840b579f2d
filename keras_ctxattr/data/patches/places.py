"""Where patches lie: the size an image is scaled to, how many patches it gives, their corners."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

_DRAWS = 32  # of a scale for one image, before the largest one is taken
_TRIES = 24  # of a place for one patch, before the best of them is taken
_MAX_OVERLAP = 0.25  # share of a patch that an earlier one may cover
# Mean of |d/dx| + |d/dy| of the grey values, below which a patch is flat (sky, walls).
_MIN_GRADIENT = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutSettings:
    """The arguments of `cut_patches` that patches depend on, checked."""

    size: int
    unit: str
    patches_per_image: int | None
    seed: int
    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"`unit` must be one of {', '.join(UNITS)}. Received: {self.unit!r}")
        if self.unit != "random" and self.patches_per_image is not None:
            raise ValueError(
                "`patches_per_image` belongs to unit='random'; leave it out. "
                f"Received: patches_per_image={self.patches_per_image}, unit={self.unit!r}"
            )
        if self.size < 1 or self.num_places < 1:
            raise ValueError(
                "`size` and `patches_per_image` must be at least 1. "
                f"Received: size={self.size}, patches_per_image={self.patches_per_image}"
            )
        if self.unit != "image" and not self.size**2 <= self.min_pixels <= self.max_pixels:
            raise ValueError(
                "`min_pixels` must hold a patch and be at most `max_pixels`. Received: "
                f"size={self.size}, min_pixels={self.min_pixels}, max_pixels={self.max_pixels}"
            )

    @property
    def num_places(self) -> int:
        """Patches of an image where places are random."""
        return 16 if self.patches_per_image is None else self.patches_per_image

    def config(self) -> dict[str, Any]:
        """Gives the settings that this unit depends on."""
        if self.unit == "image":
            return {"unit": self.unit}
        drawn = {name: getattr(self, name) for name in ("unit", "seed", "min_pixels", "max_pixels")}
        return drawn | ({"patches_per_image": self.num_places} if self.unit == "random" else {})


def _size_to_fill(sides: np.ndarray, settings: CutSettings, seed: int) -> np.ndarray:
    """Gives (height, width) of which the shorter is `size`."""
    return np.maximum(np.rint(sides * (settings.size / sides.min())), settings.size)


def _draw_size(sides: np.ndarray, settings: CutSettings, seed: int) -> np.ndarray:
    """Gives (height, width) with a random area; both sides hold a patch."""
    areas = np.random.default_rng(seed).uniform(settings.min_pixels, settings.max_pixels, _DRAWS)
    # Where all draws are unlucky the largest area serves: the manifest vouches that it suffices.
    areas = np.append(areas, settings.max_pixels)
    scales = np.sqrt(areas / np.prod(sides, dtype=np.float64))
    sizes = np.floor(scales[:, None] * sides + 1e-9)
    return sizes[np.argmax(sizes.min(1) >= settings.size)]


def _count_one(sizes: np.ndarray, settings: CutSettings) -> int:
    return 1


def _count_random(sizes: np.ndarray, settings: CutSettings) -> int:
    return settings.num_places


def _count_cells(sizes: np.ndarray, settings: CutSettings) -> int:
    return int(np.prod(sizes // settings.size))


def _place_in_middle(image: np.ndarray, settings: CutSettings, seed: int) -> np.ndarray:
    return (np.array([image.shape[:2]]) - settings.size) // 2


def _place_lattice(image: np.ndarray, settings: CutSettings, seed: int) -> np.ndarray:
    sides = np.array(image.shape[:2])
    cells = sides // settings.size
    origin = (sides - cells * settings.size) // 2
    return origin + settings.size * np.indices(cells.tolist()).reshape(2, -1).T


def _place_randomly(image: np.ndarray, settings: CutSettings, seed: int) -> np.ndarray:
    """Gives corners int `[num_places, 2]` of patches that overlap little and are not flat."""
    size = settings.size
    room = np.array(image.shape[:2]) - size + 1
    shape = (settings.num_places, _TRIES, 2)
    tries = np.random.default_rng(seed).integers(0, room, shape)
    is_flat = _mean_gradients(image, tries, size) < _MIN_GRADIENT  # [place, try]
    corners = np.zeros((0, 2), np.int64)
    for candidates, flat in zip(tries, is_flat, strict=True):
        overlap = _overlaps(candidates, corners, size)
        # The first place without fault, else the one with the least.
        faults = flat * 2.0 + np.where(overlap > _MAX_OVERLAP, overlap, 0.0)
        corners = np.append(corners, candidates[[np.argmin(faults)]], 0)
    return corners


def _overlaps(candidates: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Gives the largest share of each candidate that one of the patches covers."""
    distances = np.abs(candidates[:, None] - corners)  # [candidate, patch, axis]
    shared = np.maximum(size - distances, 0).prod(-1)
    return shared.max(1, initial=0) / size**2


def _mean_gradients(image: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Gives the mean of |d/dx| + |d/dy| of the grey values in patches.

    Args:
        image: uint8 `[height, width, 3]`.
        corners: int `[..., 2]`, (row, column).
        size: side of a patch in pixels.

    Returns:
        float64 `[...]`.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = np.zeros_like(grey)
    energy[:, :-1] += np.abs(np.diff(grey, axis=1))
    energy[:-1] += np.abs(np.diff(grey, axis=0))
    sums = cv2.integral(energy, sdepth=cv2.CV_64F)
    y, x = corners[..., 0], corners[..., 1]
    total = sums[y + size, x + size] - sums[y, x + size] - sums[y + size, x] + sums[y, x]
    return total / size**2


Measure = Callable[[np.ndarray, CutSettings, int], np.ndarray]
Count = Callable[[np.ndarray, CutSettings], int]
Place = Callable[[np.ndarray, CutSettings, int], np.ndarray]

UNITS: dict[str, tuple[Measure, Count, Place]] = {
    "image": (_size_to_fill, _count_one, _place_in_middle),
    "random": (_draw_size, _count_random, _place_randomly),
    "lattice": (_draw_size, _count_cells, _place_lattice),
}
"""Of each unit: from (height, width) of an image to those it is scaled to, both int `[2]`; from the
latter to the number of patches; from the scaled image to their corners, int `[patches, 2]` (row,
column)."""
