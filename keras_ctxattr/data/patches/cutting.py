"""From the images of a manifest to patches: whole images, random places, or a lattice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader, resize_image
from keras_ctxattr.data.manifest import CollectionError, Manifest
from keras_ctxattr.data.patches.places import UNITS, CutSettings
from keras_ctxattr.data.patches.table import (
    PatchBatch,
    PatchTable,
    Progress,
    write_patch_table,
)


def cut_patches(
    manifest: Manifest,
    folder: str | Path,
    *,
    size: int = 96,
    unit: str = "image",
    patches_per_image: int | None = None,
    seed: int = 0,
    min_pixels: int = 150_000,
    max_pixels: int = 450_000,
    shard_rows: int = 4096,
    progress: Progress | None = None,
) -> PatchTable:
    """Cuts patches out of all images and writes them to a folder.

    What is cut from an image follows from its bytes, the settings and the seed alone, whatever else
    is in the collection. Killed at any moment, the same call goes on after the last whole shard and
    ends with the same bytes; a finished table is opened as it is. At most two shards are in memory.

    Units:

    - `"image"`: one patch an image, the largest square in its middle, scaled to `size` (areas are
      averaged where it shrinks). An image of `size` x `size` is taken as it is.
    - `"random"`: the image is scaled as for context prediction, to an area drawn uniformly from
      `min_pixels`...`max_pixels`, and patches are cut at random places. A place is drawn anew, up
      to 24 times, while an earlier patch of the image covers more than a quarter of it or the patch
      is *flat* (mean of |d/dx| + |d/dy| of the grey values under 3); then the best of those places
      is taken: rather overlapping than flat. So every image gives `patches_per_image`.
    - `"lattice"`: at such a scale, all cells of a centred lattice of pitch `size`; flat ones too.

    For the last two, images that even `max_pixels` leave with a side under `size`, or whose shorter
    side is less than that to begin with, are left out.

    Args:
        manifest: The images; rows that are marked as skipped are left out.
        folder: New, empty, or holding this table or a part of it.
        size: Side of a patch in pixels, at least 1.
        unit: `"image"`, `"random"` or `"lattice"`.
        patches_per_image: For `"random"` only; 16 if None.
        seed: Seed of all draws.
        min_pixels: Smallest area to which an image is scaled.
        max_pixels: Largest such area.
        shard_rows: Patches of every shard but the last.
        progress: Called with (patches written, patches in all) after every shard.

    Returns:
        The table, its pixels memory-mapped.

    Raises:
        ValueError: If a setting is impossible, or the folder holds something else.
        CollectionError: If no image is large enough.

    Reference:
        Singh, Gupta, Efros 2012, section 4: patches overlap little, those without gradient energy
        are left out. Areas: Doersch, Gupta, Efros 2015, as released.
    """
    settings = CutSettings(
        size=size,
        unit=unit,
        patches_per_image=patches_per_image,
        seed=seed,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
    cutter = _Cutter(_choose_images(manifest, settings), settings)
    return write_patch_table(
        folder,
        int(cutter.ends[-1]),
        cutter.batches,
        {**settings.config(), "images": cutter.manifest.digest()},
        dict(zip(cutter.manifest.image_ids.tolist(), cutter.manifest.keys.tolist(), strict=True)),
        size=size,
        shard_rows=shard_rows,
        progress=progress,
    )


class _Cutter:
    """Gives the patches of a manifest from any patch on.

    Args:
        manifest: Usable and large enough images.
        settings: What to cut.

    Attributes:
        ends: Int64 `[images]`, how many patches the images up to each give.
    """

    def __init__(self, manifest: Manifest, settings: CutSettings) -> None:
        self.manifest = manifest
        self.settings = settings
        self._measure, self._count, self._place = UNITS[settings.unit]
        sides = np.stack([manifest.heights, manifest.widths], -1)
        self.sizes = np.array(
            [
                self._measure(side, settings, self._seed(row, "scale"))
                for row, side in enumerate(sides)
            ],
            np.int32,
        )
        self.scales = (sides / self.sizes)[:, ::-1]  # [image, (x, y)]: source pixels per pixel
        self.ends = np.cumsum([self._count(sizes, settings) for sizes in self.sizes])

    def batches(self, first_row: int) -> Iterator[PatchBatch]:
        """Gives the patches from a row on, those of one image at a time."""
        start = int(np.searchsorted(self.ends, first_row, side="right"))
        if start == len(self.ends):
            return
        skipped = first_row - (int(self.ends[start - 1]) if start else 0)
        images = _scaled_images(
            self.manifest.select(np.arange(start, len(self.ends))), self.sizes[start:]
        )
        for row, (image_id, image) in enumerate(images, start):
            image_ids, boxes, pixels = self._cut(row, image_id, image)
            yield image_ids[skipped:], boxes[skipped:], pixels[skipped:]
            skipped = 0

    def _cut(self, row: int, image_id: int, image: np.ndarray) -> PatchBatch:
        size = self.settings.size
        corners = self._place(image, self.settings, self._seed(row, "places"))
        pixels = np.stack([image[y : y + size, x : x + size] for y, x in corners])
        corners = corners[:, ::-1]  # (x, y)
        scale = self.scales[row]
        boxes = np.concatenate([corners * scale, (corners + size) * scale], 1)
        return np.full(len(corners), image_id, np.int64), boxes.astype(np.float32), pixels

    def _seed(self, row: int, purpose: str) -> int:
        """Gives a seed that depends on the call's seed and the image's bytes alone."""
        name = self.manifest.digests[row] or self.manifest.keys[row]
        text = f"{self.settings.seed}:{purpose}:{name}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def _choose_images(manifest: Manifest, settings: CutSettings) -> Manifest:
    size = settings.size
    if settings.unit != "image":
        manifest = manifest.mark_too_small(
            min_side=size, max_area=settings.max_pixels, above_side=size - 1
        )
    usable = manifest.usable()
    if not len(usable):
        raise CollectionError(
            f"At least one image must be large enough for patches of {size} pixels a side; add "
            f"larger ones or make `size` smaller. Received: {len(manifest)} images, all skipped"
        )
    return usable


def _scaled_images(manifest: Manifest, sizes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Gives (image id, uint8 `[*size, 3]`) of every image, in order."""
    read = encoded_reader(manifest)

    # Without it, tracing takes seconds: there is nothing to convert.
    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        image = decode_image(read(row))
        return tf.cond(
            tf.reduce_all(tf.shape(image)[:2] == size),
            lambda: image,
            lambda: tf.cast(resize_image(image, size) + 0.5, tf.uint8),
        )

    rows = tf.data.Dataset.from_tensor_slices((np.arange(len(manifest)), sizes))
    images = rows.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    yield from zip(manifest.image_ids.tolist(), images.as_numpy_iterator(), strict=True)
