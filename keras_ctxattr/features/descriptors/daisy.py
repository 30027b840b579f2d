"""DAISY descriptors, of many patches at once."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from keras_ctxattr.features.descriptors.base import Descriptor, settings_of

# Weights of R, G and B in the grey value, those of `skimage.color.rgb2gray`.
_GREY = np.array([0.2125, 0.7154, 0.0721], np.float32)
_TINY = 1e-10  # scikit-image's: the vector of a flat patch has equal values
_CHUNK_PIXELS = 2**14  # worked on at a time: what fits the cache is faster


@dataclasses.dataclass(frozen=True)
class DAISY(Descriptor):
    """DAISY: gradient orientations around points, smoothed the more the farther from the point.

    The values are those of `skimage.feature.daisy` with `normalization="l2"` at the same points.
    Scikit-image computes the descriptor of every pixel and then picks; here only the points are
    computed, as products of matrices: a sixtieth of the time. Each point's vector has length 1.

    Args:
        size: Side of a patch in pixels, at least 3.
        radius: Distance of the outermost ring in pixels; None takes the largest that fits around
            one point, `size // 3` around several.
        rings: Rings around a point.
        histograms: Histograms on a ring.
        orientations: Bins of 0...360 degrees.
        points: Points along the side; 1 is the middle of the patch.

    Reference:
        Tola, Lepetit, Fua 2010; used on contour patches by the attributes' paper, section 3.1.

    Example:
        >>> DAISY(45).num_features, DAISY(45, points=2).num_features
        (200, 800)
    """

    size: int = 45
    radius: int | None = None
    rings: int = 3
    histograms: int = 8
    orientations: int = 8
    points: int = 1

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.radius is None and self.points > 0:
            largest = (self.size - 1) // 2
            radius = largest if self.points == 1 else min(largest, self.size // 3)
            object.__setattr__(self, "radius", radius)
        counts = (
            int(self.radius or 0),
            self.rings,
            self.histograms,
            self.orientations,
            self.points,
        )
        if min(counts) < 1 or self._room < self.points - 1:
            raise ValueError(
                "`size` must hold `radius` pixels on both sides of every point, and all must be at "
                f"least 1. Received: {self}"
            )

    @property
    def _room(self) -> int:
        """Pixels between the outermost places for points."""
        return self.size - 1 - 2 * int(self.radius or 0)

    @property
    def num_features(self) -> int:
        """Length of a vector."""
        return self.points**2 * (self.rings * self.histograms + 1) * self.orientations

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return settings_of(self)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches uint8 `[b, size, size, 3]`: float32 `[b, num_features]`."""
        vectors = np.empty((len(pixels), self.num_features), np.float32)
        chunk = max(1, _CHUNK_PIXELS // self.size**2)
        # The matrices are small: threads only wait for each other.
        with threadpool_limits(limits=1):
            for start in range(0, len(pixels), chunk):
                vectors[start : start + chunk] = self._describe(pixels[start : start + chunk])
        return vectors

    def _describe(self, pixels: np.ndarray) -> np.ndarray:
        layers = self._orientation_layers(pixels @ (_GREY / 255))
        smoothed = layers.reshape(len(pixels), self.orientations, -1) @ _windows(self)
        # [patch, point, orientation within histogram]
        points = np.moveaxis(smoothed, 1, 2).reshape(len(pixels), self.points**2, -1)
        points = points.astype(np.float64) + _TINY
        points /= np.linalg.norm(points, axis=-1, keepdims=True)
        return points.reshape(len(pixels), -1)

    def _orientation_layers(self, grey: np.ndarray) -> np.ndarray:
        """Gives how much each pixel votes for each orientation: `[b, orientation, row, column]`.

        Args:
            grey: Float32 `[b, size, size]` in [0, 1].
        """
        right, down = np.zeros_like(grey), np.zeros_like(grey)
        right[:, :, :-1] = np.diff(grey, axis=2)
        down[:, :-1] = np.diff(grey, axis=1)
        strength = np.sqrt(right**2 + down**2)
        inverse = 1 / np.maximum(strength, np.float32(1e-20))
        sharpness = self.orientations / math.pi
        layers = np.empty((len(grey), self.orientations, *grey.shape[1:]), np.float32)
        for number in range(self.orientations):
            angle = 2 * math.pi * number / self.orientations - math.pi
            # cos(direction - angle), of the gradient's direction, without an arctangent
            cosine = right * np.float32(math.cos(angle)) + down * np.float32(math.sin(angle))
            layers[:, number] = np.exp(cosine * inverse * np.float32(sharpness)) * strength
        return layers


@functools.lru_cache(maxsize=8)
def _windows(daisy: DAISY) -> np.ndarray:
    """Gives the Gaussian windows: float32 `[size * size, points * (1 + rings * histograms)]`."""
    radius = int(daisy.radius or 0)
    step = daisy._room // max(1, daisy.points - 1)
    first = radius + (daisy._room // 2 if daisy.points == 1 else 0)
    sigmas = [radius * (ring + 1) / (2 * daisy.rings) for ring in range(daisy.rings)]
    angles = [2 * math.pi * number / daisy.histograms for number in range(daisy.histograms)]
    places = [(sigmas[0], 0, 0)]
    for ring, sigma in enumerate(sigmas, 1):
        distance = radius * ring / daisy.rings
        for angle in angles:
            row, column = round(distance * math.sin(angle)), round(distance * math.cos(angle))
            places.append((sigma, row, column))
    windows = []
    for row in range(daisy.points):
        for column in range(daisy.points):
            for sigma, row_offset, column_offset in places:
                smoothing = _smoothing(daisy.size, sigma)
                vertical = smoothing[first + step * row + row_offset]
                horizontal = smoothing[first + step * column + column_offset]
                windows.append(np.outer(vertical, horizontal).ravel())
    return np.stack(windows, 1).astype(np.float32)


def _smoothing(size: int, sigma: float) -> np.ndarray:
    """Gives the matrix `[to, from]` that smooths a line as `skimage.filters.gaussian` does."""
    return ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=4.0)
