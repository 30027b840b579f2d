"""From a manifest to training batches: which image, which scale, which grids, which pairs.

Step `s` is a pure function of (seed, s): images come in the order of
`tf.random.experimental.index_shuffle`, everything else from stateless draws keyed by (seed, step,
element). So a run resumes at any step without replaying, and the number of workers changes nothing.
Shapes are static. There is no padding among the patches: where the grids of a step fall short of
`patches_per_batch`, further patches of the same images fill the batch without being in any pair.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.grids.config import GridConfig
from keras_ctxattr.data.grids.layout import assemble_group, merge_groups
from keras_ctxattr.data.images import encoded_reader, resize_image
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.shuffling import shuffled_rows

_DRAWS = 32  # of a scale for one image, before the largest one is taken
_LAST_STEP = 2**62


def grid_batches(
    manifest: Manifest,
    config: GridConfig | None = None,
    *,
    seed: int = 0,
    first_step: int = 0,
    num_steps: int | None = None,
    num_workers: int = tf.data.AUTOTUNE,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Gives training batches for `ContextPredictor`, one a step.

    Args:
        manifest: the collection; rows that are marked as skipped or too small are left out.
        config: geometry, `GridConfig()` if None.
        seed: seed of the run, 0 to 2**31 - 1.
        first_step: step at which to begin: batches are those that an uninterrupted run would give.
        num_steps: number of steps, endless if None.
        num_workers: images decoded at a time.
        share: (which, of how many) devices this is for: it gets as many groups of every batch as
            the others.

    Returns:
        A dataset of dicts: `canvases` uint8 `[images, max_pixels, 3]` (an image's rows one after
        the other, zero-padded at the end), `sizes` int32 `[images, 2]` (height, width), `corners`
        int32 `[patches, 3]` (image, row, column; before jitter), `pairs` int32 `[pairs, 3]`
        (first patch, second patch, position 0...7 of the second seen from the first, row-major,
        see `POSITIONS`), `pair_mask` bool `[pairs]`, `seed` int32 `[groups, 2]` for the draws on
        the device, `redraws` int32 `[]`, how many draws of a scale were unlucky (training logs it).

    Raises:
        ValueError: if no image is usable, or the groups cannot be shared by so many.
    """
    config = config or GridConfig()
    images = _usable(manifest, config)
    last_step = _LAST_STEP if num_steps is None else first_step + num_steps
    groups = _groups_of(share, config)
    # All draws of a step are made at once: one by one they would cost a tenth of decoding.
    plans = tf.data.Dataset.range(first_step, last_step).map(
        _planner(images, config, seed, groups), num_parallel_calls=2, deterministic=True
    )
    loaded = plans.unbatch().map(
        _loader(images), num_parallel_calls=num_workers, deterministic=True
    )
    # A canvas takes its full length only here, where the batch is laid out anyway.
    shapes = {name: spec.shape for name, spec in loaded.element_spec.items()}
    shapes["canvas"] = tf.TensorShape([config.max_pixels, 3])
    num_images = config.images_per_batch // config.num_groups
    assembled = loaded.padded_batch(num_images, shapes, drop_remainder=True).map(
        lambda images: assemble_group(images, config, seed),
        num_parallel_calls=2,
        deterministic=True,
    )
    if len(groups) == 1:  # nothing to be laid together, and canvases are large
        return assembled.map(lambda one: {**one, "seed": one["seed"][None]}).prefetch(2)
    return assembled.batch(len(groups), drop_remainder=True).map(merge_groups).prefetch(2)


def _groups_of(share: tuple[int, int], config: GridConfig) -> range:
    """Gives the groups of a batch that a device takes."""
    which, of = share
    if not 0 <= which < of or config.num_groups % of:
        raise ValueError(
            "`num_groups` must be a multiple of the number of devices that share a batch, so that "
            f"each has as many. Received: num_groups={config.num_groups}, {of} devices"
        )
    count = config.num_groups // of
    return range(which * count, (which + 1) * count)


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


def _planner(
    manifest: Manifest, config: GridConfig, seed: int, groups: range
) -> Callable[..., Any]:
    """Gives the function from a step to what is drawn for each image of its groups."""
    num_images, count = len(manifest), config.images_per_batch
    group_size = count // config.num_groups
    own = slice(groups.start * group_size, groups.stop * group_size)
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
        drawn = {
            "step": tf.fill([count], step),
            "group": tf.range(count, dtype=tf.int64) // group_size,
            "row": rows,
            "size": sizes,
            "origins": origins,
            "redraws": redraws,
        }
        return {name: values[own] for name, values in drawn.items()}

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
