"""Photographs and sampled regions as training batches, in graph: step s needs no step before it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.detection.candidates import Candidates
from keras_ctxattr.tasks.detection.canvases import mirror_boxes, scale_image, scaled_size
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe

MULTIPLE = 64  # pixels that the sides of canvases are a multiple of: few shapes, little padding
_ENDLESS = 2**40


def fast_rcnn_batches(
    manifest: Manifest,
    candidates: Candidates,
    recipe: FastRcnnRecipe,
    *,
    seed: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, each a function of seed and step alone.

    Args:
        manifest: the photographs.
        candidates: boxes of each, compared with its objects.
        recipe: geometry and sampling.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of dictionaries: `images` uint8 `[batch, height, width, 3]`, zero-padded below and
        on the right; `sizes` int32 `[batch, 2]`; `regions` float32 `[batch, regions, 4]`, edges in
        pixels of the canvas; `labels` int32 `[batch, regions]`, 0 for background, -1 for a place
        that the photograph did not fill; `targets` float32 `[batch, regions, 4]`, the objects'
        boxes.
    """
    count = recipe.images_per_batch
    load = _loader(manifest, candidates, recipe, seed)
    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    loaded = elements.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return loaded.padded_batch(count, drop_remainder=True).map(pad_canvases).prefetch(2)


def load_scaled(
    read: Callable[[tf.Tensor], tf.Tensor], row: tf.Tensor, recipe: FastRcnnRecipe
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives a photograph as the network takes it, and by how much it was scaled.

    Args:
        read: from a row to the bytes of its file.
        row: int64 scalar.
        recipe: says how large.

    Returns:
        uint8 `[height, width, 3]`; float32 `[4]`, factors of left, top, right and bottom; int32
        `[2]`, height and width before.
    """
    image = decode_image(read(row))
    before = tf.shape(image)[:2]
    size = scaled_size(before, recipe.max_side, recipe.min_side)
    scale = tf.cast(size, tf.float32) / tf.cast(before, tf.float32)
    return (
        tf.ensure_shape(scale_image(image, size), [None, None, 3]),
        tf.gather(scale, [1, 0, 1, 0]),
        before,
    )


def _loader(
    manifest: Manifest, candidates: Candidates, recipe: FastRcnnRecipe, seed: int
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    read = encoded_reader(manifest)
    with tf.init_scope():  # captured by the graph, not copied into it
        columns = {
            name: tf.constant(getattr(candidates, name))
            for name in ("boxes", "overlaps", "labels", "targets")
        }
        offsets = tf.constant(candidates.offsets)

    @tf.autograph.experimental.do_not_convert
    def load(element: tf.Tensor) -> dict[str, tf.Tensor]:
        row = shuffled_rows(element[None], len(manifest), seed)[0]
        key = tf.random.fold_in(tf.constant([seed, 3], tf.int64), element)
        image, scale, _ = load_scaled(read, row, recipe)
        own = slice(offsets[row], offsets[row + 1])
        rows, is_there = sample_regions(columns["overlaps"][own], recipe, key)
        boxes, targets = (
            tf.gather(columns[name][own], rows) * scale for name in ("boxes", "targets")
        )
        is_object = tf.gather(columns["overlaps"][own], rows) >= recipe.foreground_overlap
        labels = tf.where(is_object, tf.gather(columns["labels"][own], rows), 0)
        flips = tf.random.stateless_uniform([], tf.random.fold_in(key, 2)) < recipe.flip
        width = tf.shape(image)[1]
        return {
            "images": tf.cond(flips, lambda: tf.reverse(image, [1]), lambda: image),
            "sizes": tf.shape(image)[:2],
            "regions": tf.where(flips, mirror_boxes(boxes, width), boxes),
            "labels": tf.where(is_there, labels, -1),
            "targets": tf.where(flips, mirror_boxes(targets, width), targets),
        }

    return load


def sample_regions(
    overlaps: tf.Tensor, recipe: FastRcnnRecipe, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the regions of one photograph: objects first, then background.

    Args:
        overlaps: float32 `[n]` of its candidates.
        recipe: how many of which.
        key: seed, integer `[2]`.

    Returns:
        Rows, int32 `[regions_per_image]`, and whether each was drawn: where there are too few
        candidates, the rest is not.
    """
    total = recipe.regions_per_image
    most = int(np.round(recipe.foreground * total))
    # So many more that the tops below exist; they are neither object nor background.
    padded = tf.concat([overlaps, tf.fill([total], -1.0)], 0)
    draws = tf.random.stateless_uniform(tf.shape(padded), tf.random.fold_in(key, 1))
    is_object = padded >= recipe.foreground_overlap
    near = (padded >= recipe.background_overlap) & ~is_object
    # Where nothing touches an object, all the rest is background.
    background = tf.cond(tf.reduce_any(near), lambda: near, lambda: (padded >= 0) & ~is_object)
    objects, objects_there = _draw(draws, is_object, most)
    others, others_there = _draw(draws, background, total)
    num_objects = tf.reduce_sum(tf.cast(objects_there, tf.int32))
    others_there &= tf.range(total) < total - num_objects
    rows = tf.concat([objects, others], 0)
    is_there = tf.concat([objects_there, others_there], 0)
    # What was drawn comes first, in its order.
    order = tf.argsort(tf.cast(~is_there, tf.int32), stable=True)[:total]
    is_there = tf.ensure_shape(tf.gather(is_there, order), [total])
    return tf.where(is_there, tf.gather(rows, order), 0), is_there


def _draw(draws: tf.Tensor, mask: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives `count` rows where the mask holds, by their draws, and which of them are any good."""
    found = tf.math.top_k(tf.where(mask, draws, -1.0), count)
    return found.indices, found.values >= 0


def pad_canvases(batch: dict[str, Any]) -> dict[str, Any]:
    """Pads `images` below and on the right, so that there are few shapes to compile for."""
    sides = tf.shape(batch["images"])[1:3]
    missing = -sides % MULTIPLE
    images = tf.pad(batch["images"], [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    return {**batch, "images": images}
