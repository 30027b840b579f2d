"""Photographs and sampled regions as training batches, in graph: step s needs no step before it."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader, resize_image
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.detection.candidates import Candidates
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe

_ENDLESS = 2**40
_STREAM = 5  # keeps these draws apart from others of the same seed


def rcnn_batches(
    manifest: Manifest,
    candidates: Candidates,
    recipe: RcnnRecipe,
    *,
    seed: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Gives an endless sequence of batches, each a function of seed and step alone.

    Objects and background are drawn among the regions of all photographs of a step, each as likely
    as any other, with replacement, as in the released code. Where a step's photographs have
    regions of one kind only, these take the place of the other.

    Args:
        manifest: the photographs.
        candidates: boxes of each, compared with its objects.
        recipe: geometry and sampling.
        seed: of all draws, 0 to 2**31 - 1.
        first_step: where to enter the sequence.

    Returns:
        A dataset of dictionaries of static shapes: `canvases` uint8 `[images, pixels, 3]` and
        `sizes` int32 `[images, 2]`, as `canvas_loader` gives them; `regions` float32 `[crops, 4]`,
        edges in pixels of the canvas, left and right exchanged where the crop is to be mirrored;
        `places` int32 `[crops]`, the photograph of each; `labels` int32 `[crops]`, 0 for
        background.

    Raises:
        ValueError: if a photograph has no region at all, or there is no object.

    Reference:
        Girshick et al. 2014, section 2.3.
    """
    _check(manifest, candidates, recipe)
    count = recipe.images_per_batch
    load = canvas_loader(manifest, recipe.max_side)
    draw = _drawer(candidates, recipe, seed)

    @tf.autograph.experimental.do_not_convert
    def take(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row = shuffled_rows(element[None], len(manifest), seed)[0]
        return (row, *load(row))

    elements = tf.data.Dataset.range(first_step * count, _ENDLESS)
    loaded = elements.map(take, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    steps = loaded.batch(count, drop_remainder=True).enumerate(first_step)
    return steps.map(draw, num_parallel_calls=2, deterministic=True).prefetch(2)


def canvas_loader(
    manifest: Manifest, max_side: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Gives a function, to be called in graph, from a row to its photograph as a flat canvas.

    The function gives uint8 `[max_side**2, 3]`, the photograph's rows one after the other, zeros
    after them; int32 `[2]`, its height and width; float32 `[4]`, by how much left, top, right and
    bottom of boxes in its own pixels are scaled.
    """
    read = encoded_reader(manifest)

    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = decode_image(read(row))
        before = tf.shape(image)[:2]
        sides = tf.cast(before, tf.float32)
        shrink = tf.minimum(max_side / tf.reduce_max(sides), 1.0)
        size = tf.clip_by_value(tf.cast(tf.round(sides * shrink), tf.int32), 1, max_side)
        scale = tf.cast(size, tf.float32) / sides
        image = tf.cond(
            shrink < 1,
            lambda: tf.cast(tf.round(resize_image(image, size)), tf.uint8),
            lambda: image,
        )
        pixels = tf.reshape(image, [-1, 3])
        canvas = tf.pad(pixels, [[0, max_side**2 - tf.shape(pixels)[0]], [0, 0]])
        return tf.ensure_shape(canvas, [max_side**2, 3]), size, tf.gather(scale, [1, 0, 1, 0])

    return load


def _check(manifest: Manifest, candidates: Candidates, recipe: RcnnRecipe) -> None:
    counts = np.diff(candidates.offsets)
    if len(counts) != len(manifest) or not (counts > 0).all():
        raise ValueError(
            "Every photograph must have an object or a proposal; leave the others out. Received: "
            f"{int((counts == 0).sum())} of {len(counts)} without, for {len(manifest)} photographs"
        )
    if not (candidates.overlaps >= recipe.foreground_overlap).any():
        raise ValueError("There must be objects to learn. Received: none in any photograph")


def _drawer(
    candidates: Candidates, recipe: RcnnRecipe, seed: int
) -> Callable[[tf.Tensor, tuple[tf.Tensor, ...]], dict[str, tf.Tensor]]:
    with tf.init_scope():  # captured by the graph, not copied into it
        boxes, overlaps, labels, offsets = (
            tf.constant(getattr(candidates, name))
            for name in ("boxes", "overlaps", "labels", "offsets")
        )

    @tf.autograph.experimental.do_not_convert
    def draw(step: tf.Tensor, loaded: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        rows, canvases, sizes, scales = loaded
        key = tf.random.fold_in(tf.constant([seed, _STREAM], tf.int64), step)
        numbers, places = _own_regions(offsets, rows, recipe.images_per_batch)
        is_object = tf.gather(overlaps, numbers) >= recipe.foreground_overlap
        chosen = draw_regions(is_object, recipe, key)
        numbers, places = tf.gather(numbers, chosen), tf.gather(places, chosen)
        regions = tf.gather(boxes, numbers) * tf.gather(scales, places)
        flips = tf.random.stateless_uniform([recipe.crops_per_batch, 1], tf.random.fold_in(key, 1))
        mirrored = tf.gather(regions, [2, 1, 0, 3], axis=1)
        return {
            "canvases": canvases,
            "sizes": sizes,
            "regions": tf.where(flips < recipe.flip, mirrored, regions),
            "places": places,
            "labels": tf.where(tf.gather(is_object, chosen), tf.gather(labels, numbers), 0),
        }

    return draw


def _own_regions(
    offsets: tf.Tensor, rows: tf.Tensor, num_images: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the numbers of all regions of some photographs, int64, and whose each is, int32."""
    starts, ends = tf.gather(offsets, rows), tf.gather(offsets, rows + 1)
    numbers = tf.concat([tf.range(starts[one], ends[one]) for one in range(num_images)], 0)
    return numbers, tf.repeat(tf.range(num_images), ends - starts)


def draw_regions(is_object: tf.Tensor, recipe: RcnnRecipe, key: tf.Tensor) -> tf.Tensor:
    """Draws the regions of a step: objects first, then background.

    Args:
        is_object: bool `[n]`, n at least 1.
        recipe: how many of which.
        key: seed, integer `[2]`.

    Returns:
        int32 `[crops_per_batch]`, places in `is_object`.
    """
    objects, others = (tf.cast(tf.where(mask)[:, 0], tf.int32) for mask in (is_object, ~is_object))
    draws = tf.random.stateless_uniform([recipe.crops_per_batch], key)
    first = recipe.num_foreground
    chosen = [_pick(objects, others, draws[:first]), _pick(others, objects, draws[first:])]
    return tf.ensure_shape(tf.concat(chosen, 0), [recipe.crops_per_batch])


def _pick(places: tf.Tensor, instead: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Takes a place for every draw in [0, 1); of `instead` where there are none."""
    some = tf.cond(tf.size(places) > 0, lambda: places, lambda: instead)
    count = tf.size(some)
    # A draw just under 1 may be rounded up.
    numbers = tf.cast(draws * tf.cast(count, tf.float32), tf.int32)
    return tf.gather(some, tf.minimum(numbers, count - 1))
