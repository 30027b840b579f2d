"""From a manifest to training batches: which image, which scale, which grids, which pairs.

Step `s` is a pure function of (seed, s): images come in the order of
`tf.random.experimental.index_shuffle`, everything else from stateless draws keyed by (seed, step,
element). So a run resumes at any step without replaying, and the number of workers changes nothing.
Shapes are static. There is no padding among the patches: where the grids of a step fall short of
`patches_per_batch`, further patches of the same images fill the batch without being in any pair.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader, resize_image
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.shuffling import shuffled_rows

POSITIONS = ("up-left", "up", "up-right", "left", "right", "down-left", "down", "down-right")
# The four neighbours that come later in row-major order: (row step, column step, position). The
# reversed pair has position 7 - p, so emitting both keeps p and 7 - p exactly balanced.
_FORWARD = ((0, 1, 4), (1, -1, 5), (1, 0, 6), (1, 1, 7))
_DRAWS = 32  # of a scale for one image, before the largest one is taken
_LAST_STEP = 2**62


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


def grid_batches(
    manifest: Manifest,
    config: GridConfig | None = None,
    *,
    seed: int = 0,
    first_step: int = 0,
    num_steps: int | None = None,
    num_workers: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Gives training batches for `ContextPredictor`, one a step.

    Args:
        manifest: the collection; rows that are marked as skipped or too small are left out.
        config: geometry, `GridConfig()` if None.
        seed: seed of the run, 0 to 2**31 - 1.
        first_step: step at which to begin: batches are those that an uninterrupted run would give.
        num_steps: number of steps, endless if None.
        num_workers: images decoded at a time.

    Returns:
        A dataset of dicts: `canvases` uint8 `[images, max_pixels, 3]` (an image's rows one after
        the other, zero-padded at the end), `sizes` int32 `[images, 2]` (height, width), `corners`
        int32 `[patches, 3]` (image, row, column; before jitter), `pairs` int32 `[pairs, 3]`
        (first patch, second patch, position 0...7 of the second seen from the first, row-major,
        see `POSITIONS`), `pair_mask` bool `[pairs]`, `seed` int32 `[2]` for the draws on the
        device, `redraws` int32 `[]`, how many draws of a scale were unlucky (training logs it).

    Raises:
        ValueError: if no image is usable.
    """
    config = config or GridConfig()
    images = _usable(manifest, config)
    last_step = _LAST_STEP if num_steps is None else first_step + num_steps
    # All draws of a step are made at once: one by one they would cost a tenth of decoding.
    plans = tf.data.Dataset.range(first_step, last_step).map(
        _planner(images, config, seed), num_parallel_calls=2, deterministic=True
    )
    loaded = plans.unbatch().map(
        _loader(images), num_parallel_calls=num_workers, deterministic=True
    )
    # A canvas takes its full length only here, where the batch is laid out anyway.
    shapes = {name: spec.shape for name, spec in loaded.element_spec.items()}
    shapes["canvas"] = tf.TensorShape([config.max_pixels, 3])
    batches = loaded.padded_batch(config.images_per_batch, shapes, drop_remainder=True)
    assembled = batches.map(
        lambda images: _assemble(images, config, seed), num_parallel_calls=2, deterministic=True
    )
    return assembled.prefetch(2)


def _usable(manifest: Manifest, config: GridConfig) -> Manifest:
    """Gives the rows that can be trained on."""
    large = config.mark_too_small(manifest).usable()
    if len(large) == 0:
        raise ValueError(
            f"At least one image must exceed {config.min_side} pixels a side when scaled to "
            f"{config.max_pixels} pixels; give larger photographs. Received: "
            f"{len(manifest.usable())} readable images, all too small"
        )
    return large


def _planner(manifest: Manifest, config: GridConfig, seed: int) -> Callable[..., Any]:
    """Gives the function from a step to what is drawn for each of its images."""
    num_images, count = len(manifest), config.images_per_batch
    sides = tf.constant(np.stack([manifest.heights, manifest.widths], -1), tf.float64)

    @tf.autograph.experimental.do_not_convert
    def plan(step: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = shuffled_rows(step * count + tf.range(count, dtype=tf.int64), num_images, seed)
        key = tf.random.fold_in(tf.constant([seed, 1], tf.int64), step)
        sizes, redraws = _draw_sizes(tf.gather(sides, rows), config, tf.random.fold_in(key, 0))
        shape = [count, config.grids_per_image, 2]
        origins = tf.random.stateless_uniform(
            shape, tf.random.fold_in(key, 1), 0, config.pitch, tf.int32
        )
        return {
            "step": tf.fill([count], step),
            "row": rows,
            "size": sizes,
            "origins": origins,
            "redraws": redraws,
        }

    return plan


def _loader(manifest: Manifest) -> Callable[..., Any]:
    """Gives the function that adds an image's canvas to what was drawn for it."""
    read = encoded_reader(manifest)

    @tf.autograph.experimental.do_not_convert
    def load(plan: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        pixels = resize_image(decode_image(read(plan["row"])), plan["size"])
        return {**plan, "canvas": tf.reshape(tf.cast(pixels + 0.5, tf.uint8), [-1, 3])}

    return load


def _draw_sizes(
    sides: tf.Tensor, config: GridConfig, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws each image's (height, width), and tells how many draws were too small.

    Args:
        sides: float64 `[images, 2]`.
        config: bounds.
        key: seed of the draws.

    Returns:
        int32 `[images, 2]` and int32 `[images]`.
    """
    count = tf.shape(sides)[0]
    low, high = float(config.min_pixels), float(config.max_pixels)
    areas = tf.random.stateless_uniform([count, _DRAWS], key, low, high)
    # Where all draws are unlucky, the largest area serves: the manifest vouches that it suffices.
    areas = tf.cast(tf.concat([areas, tf.fill([count, 1], high)], 1), tf.float64)
    scales = tf.sqrt(areas / tf.reduce_prod(sides, -1, keepdims=True))
    sizes = tf.cast(tf.floor(scales[..., None] * sides[:, None] + 1e-9), tf.int32)
    lucky = tf.reduce_all(sizes > config.min_side, axis=-1)  # [image, draw]
    first = tf.argmax(lucky, axis=1, output_type=tf.int32)
    return tf.gather(sizes, first, batch_dims=1), first


def _assemble(images: dict[str, tf.Tensor], config: GridConfig, seed: int) -> dict[str, tf.Tensor]:
    """Turns loaded images into a batch of patches and pairs."""
    key = tf.random.fold_in(tf.constant([seed, 2], tf.int64), images["step"][0])
    cells = _lay_grids(images["size"], images["origins"], config)
    rank = tf.cumsum(tf.cast(cells["valid"], tf.int32)) - 1
    slot = tf.where(cells["valid"] & (rank < config.patches_per_batch), rank, -1)
    pairs, mask = _pair_up(cells, slot, config.pairs_per_batch)
    return {
        "canvases": images["canvas"],
        "sizes": images["size"],
        "corners": _fill_up(cells["corners"][slot >= 0], images["size"], config, key),
        "pairs": pairs,
        "pair_mask": mask,
        "seed": tf.random.stateless_uniform([2], key, 0, 2**31 - 1, tf.int32),
        "redraws": tf.reduce_sum(images["redraws"]),
    }


def _lay_grids(sizes: tf.Tensor, origins: tf.Tensor, config: GridConfig) -> dict[str, tf.Tensor]:
    """Enumerates the cells of all grids: first grids of all images, then second ones, ...

    Args:
        sizes: int32 `[images, 2]`.
        origins: int32 `[images, grids, 2]`.
        config: the geometry.

    Returns:
        `corners` int32 `[cells, 3]`, `valid` bool `[cells]`, `place` and `extent` int32
        `[cells, 2]` (row and column in the grid; its numbers of rows and columns).
    """
    origins = tf.transpose(origins, [1, 0, 2])  # [grid, image, axis]
    extent = (sizes[None] + config.gap - origins) // config.pitch
    cell = tf.range(config.max_cells)
    columns = tf.maximum(extent[..., 1:], 1)
    place = tf.stack([cell // columns, cell % columns], -1)  # [grid, image, cell, axis]
    corner = origins[:, :, None] + config.pitch * place
    image = tf.broadcast_to(tf.range(tf.shape(sizes)[0])[:, None, None], tf.shape(corner[..., :1]))
    extent = tf.broadcast_to(extent[:, :, None], tf.shape(place))
    return {
        "corners": tf.reshape(tf.concat([image, corner], -1), [-1, 3]),
        "valid": tf.reshape(cell < tf.reduce_prod(extent, -1), [-1]),
        "place": tf.reshape(place, [-1, 2]),
        "extent": tf.reshape(extent, [-1, 2]),
    }


def _pair_up(
    cells: dict[str, tf.Tensor], slot: tf.Tensor, num_pairs: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives all ordered neighbours among the patches that are in the batch, padded, and a mask."""
    first = tf.range(tf.shape(slot)[0])
    candidates = []
    for row_step, column_step, position in _FORWARD:
        step = tf.constant([row_step, column_step])
        neighbour = cells["place"] + step
        inside = tf.reduce_all((neighbour >= 0) & (neighbour < cells["extent"]), -1)
        second = first + row_step * cells["extent"][:, 1] + column_step
        second_slot = tf.gather(slot, tf.where(inside, second, 0))
        both = inside & (slot >= 0) & (second_slot >= 0)
        label = tf.fill(tf.shape(slot), position)
        candidates.append(tf.stack([tf.where(both, slot, -1), second_slot, label], -1))
    forward = tf.reshape(tf.stack(candidates, 1), [-1, 3])
    forward = forward[forward[:, 0] >= 0][: num_pairs // 2]
    backward = tf.stack([forward[:, 1], forward[:, 0], 7 - forward[:, 2]], -1)
    pairs = tf.reshape(tf.stack([forward, backward], 1), [-1, 3])
    count = tf.shape(pairs)[0]
    padded = tf.pad(pairs, [[0, num_pairs - count], [0, 0]])
    return tf.ensure_shape(padded, [num_pairs, 3]), tf.range(num_pairs) < count


def _fill_up(corners: tf.Tensor, sizes: tf.Tensor, config: GridConfig, key: tf.Tensor) -> tf.Tensor:
    """Appends patches at random places of the same images until the batch is full."""
    total = config.patches_per_batch
    image = tf.range(total) % tf.shape(sizes)[0]
    room = tf.cast(tf.gather(sizes, image) - config.patch_size + 1, tf.float32)
    place = tf.random.stateless_uniform([total, 2], tf.random.fold_in(key, 1)) * room
    extra = tf.concat([image[:, None], tf.cast(place, tf.int32)], -1)
    return tf.ensure_shape(tf.concat([corners, extra], 0)[:total], [total, 3])
