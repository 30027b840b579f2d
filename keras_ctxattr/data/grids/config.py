"""How grids of patches are laid over images, and how many make a batch."""

import dataclasses

import numpy as np

from keras_ctxattr.data.manifest import Manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """How grids of patches are laid over images, and how many make a batch.

    Attributes:
        patch_size: side of a patch in pixels.
        gap: pixels between neighbouring patches of a grid.
        jitter: largest shift of a patch per axis in pixels, at most `gap / 2`.
        min_pixels: smallest area to which an image is scaled.
        max_pixels: largest such area.
        grids_per_image: grids laid over one load of an image.
        images_per_batch: images loaded for one step.
        patches_per_batch: patches of one step, exactly.
        pairs_per_batch: most pairs of one step (even); fewer are padded, and masked.
        num_groups: equal parts of a batch, each with images, patches, pairs and draws of its own.
            Any number of devices that divides it computes the same: each takes as many groups.

    Raises:
        ValueError: if a value makes patches overlap or no batch possible.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1; areas, grids per load and batch as released.
    """

    patch_size: int = 96
    gap: int = 48
    jitter: int = 7
    min_pixels: int = 150_000
    max_pixels: int = 450_000
    grids_per_image: int = 4
    images_per_batch: int = 14
    patches_per_batch: int = 512
    pairs_per_batch: int = 2400
    num_groups: int = 1

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.patch_size < 1 or self.gap < 0 or not 0 <= 2 * self.jitter <= max(self.gap, 0):
            raise ValueError(
                "`jitter` must be between 0 and half of `gap`, or two patches may overlap. "
                f"Received: patch_size={self.patch_size}, jitter={self.jitter}, gap={self.gap}"
            )
        if not self.min_side**2 < self.min_pixels <= self.max_pixels:
            raise ValueError(
                "`min_pixels` must be at most `max_pixels` and hold more than a square of "
                f"2 * patch_size + gap + jitter = {self.min_side} pixels a side. "
                f"Received: min_pixels={self.min_pixels}, max_pixels={self.max_pixels}"
            )
        counts = (self.grids_per_image, self.images_per_batch, self.patches_per_batch)
        if min(counts) < 1 or self.pairs_per_batch < 2 or self.pairs_per_batch % 2:
            raise ValueError(
                "Counts must be at least 1 and `pairs_per_batch` even, so that every pair is in "
                f"both orders. Received: {self}"
            )
        self._check_groups()

    def _check_groups(self) -> None:
        counts = (self.images_per_batch, self.patches_per_batch, self.pairs_per_batch // 2)
        if self.num_groups < 1 or any(count % self.num_groups for count in counts):
            raise ValueError(
                "`num_groups` must divide `images_per_batch`, `patches_per_batch` and half of "
                "`pairs_per_batch`, so that groups are equal; with several devices it must be a "
                f"multiple of their number. Received: num_groups={self.num_groups}, "
                f"images_per_batch={self.images_per_batch}, patches_per_batch="
                f"{self.patches_per_batch}, pairs_per_batch={self.pairs_per_batch}"
            )

    @property
    def pitch(self) -> int:
        """Distance of neighbouring patch corners in pixels."""
        return self.patch_size + self.gap

    @property
    def min_side(self) -> int:
        """Side in pixels that a scaled image must exceed."""
        return 2 * self.patch_size + self.gap + self.jitter

    @property
    def max_cells(self) -> int:
        """Most cells that a grid can have in any image."""
        heights = np.arange(self.min_side + 1, self.max_pixels // (self.min_side + 1) + 1)
        rows = (heights + self.gap) // self.pitch
        columns = (self.max_pixels // heights + self.gap) // self.pitch
        return int((rows * columns).max())

    def mark_too_small(self, manifest: Manifest) -> Manifest:
        """Gives the manifest with the images skipped in which no pair of patches finds room."""
        return manifest.mark_too_small(
            min_side=self.patch_size, max_area=self.max_pixels, above_side=self.min_side
        )
