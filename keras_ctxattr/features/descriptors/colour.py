"""Colour histograms: the least that a code of a photograph must be better than."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_ctxattr.features.descriptors.base import Descriptor, settings_of


@dataclasses.dataclass(frozen=True)
class ColourHistogram(Descriptor):
    """Square roots of a joint histogram of red, green and blue, so that vectors have length 1.

    Args:
        size: Side of a patch in pixels.
        bins: Bins of each channel, 2 to 16.

    Reference:
        Swain and Ballard 1991; the square root, which makes a dot product of two vectors their
        Bhattacharyya coefficient, as in Arandjelovic and Zisserman 2012.

    Example:
        >>> red = np.full((1, 4, 4, 3), (255, 0, 0), np.uint8)
        >>> int(ColourHistogram(4, bins=2)(red).argmax())
        4
    """

    size: int = 96
    bins: int = 8

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.size < 1 or not 2 <= self.bins <= 16:
            raise ValueError(
                "`size` must be at least 1 and `bins` from 2 to 16. Received: "
                f"size={self.size}, bins={self.bins}"
            )

    @property
    def num_features(self) -> int:
        """Length of a vector."""
        return self.bins**3

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return settings_of(self)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches uint8 `[b, size, size, 3]`: float32 `[b, num_features]`."""
        levels = pixels.reshape(len(pixels), -1, 3).astype(np.int64) * self.bins // 256
        red, green, blue = np.moveaxis(levels, -1, 0)  # [patch, pixel]
        places = (red * self.bins + green) * self.bins + blue
        places += np.arange(len(pixels))[:, None] * self.num_features
        counts = np.bincount(places.ravel(), minlength=len(pixels) * self.num_features)
        shares = counts.reshape(len(pixels), self.num_features) / levels.shape[1]
        return np.sqrt(shares).astype(np.float32)
