"""Pairs of patches inside the boxes of objects (Doersch et al. 2015, section 4.6)."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.data.voc import read_voc

GAP = 48  # pixels between patches
MIN_SIDE = 240  # of a box as annotated: two patches of 96 and the gap
_MIN_PIXELS, _MAX_PIXELS = 150_000, 450_000
_DRAWS = 32  # of a scale for one image, before the largest one is taken
# Patches of a quad are numbered 0 1 / 2 3; (first, second) by position. Where two pairs have the
# same position, one of them is drawn.
_PAIRS = (
    ((3, 0),),
    ((2, 0), (3, 1)),
    ((2, 1),),
    ((1, 0), (3, 2)),
    ((0, 1), (2, 3)),
    ((1, 2),),
    ((0, 2), (1, 3)),
    ((0, 3),),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeObjects:
    """Large objects that are neither truncated nor occluded nor difficult.

    Attributes:
        manifest: their images.
        rows: int `[objects]`, the manifest's row of each.
        boxes: float32 `[objects, 4]`, (left, top, right, bottom) of pixel edges.
        classes: name of each object's class.
    """

    manifest: Manifest
    rows: np.ndarray
    boxes: np.ndarray
    classes: tuple[str, ...]


def read_whole_objects(source: Path, image_set: str) -> WholeObjects:
    """Reads the objects of an image set that are whole, and at least 240 pixels a side.

    Args:
        source: folder or archive in the layout of VOC.
        image_set: name of a list in ImageSets/Main.

    Raises:
        CollectionError: if it is no such data set.
        ValueError: if there is no such object.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.6: "at least 240 pixels on each side", as annotated.
    """
    images = read_voc(source, image_set)
    manifest = scan_images(source, keep_duplicates=True).usable()
    rows = {key: row for row, key in enumerate(manifest.keys)}
    found = [
        (rows[image.key], box, name)
        for image in images
        if image.key in rows
        for box, name, *flags in zip(
            image.objects.boxes,
            image.objects.classes,
            image.objects.truncated,
            image.objects.occluded,
            image.objects.difficult,
            strict=True,
        )
        if not any(flags) and min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE
    ]
    if not found:
        raise ValueError(
            f"At least one object must be {MIN_SIDE} pixels a side or larger, and neither "
            f"truncated nor occluded nor difficult. Received: {source}, {image_set}, with none"
        )
    return WholeObjects(
        manifest=manifest,
        rows=np.array([row for row, _, _ in found]),
        boxes=np.stack([box for _, box, _ in found]),
        classes=tuple(name for _, _, name in found),
    )


def box_batches(
    objects: WholeObjects,
    *,
    patch_size: int = 96,
    num_boxes: int = 500,
    pairs_per_box: int = 256,
    seed: int = 0,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives one batch a box: pairs that lie wholly inside it, every position equally often.

    Images are scaled as in training: a scale at which 2 x 2 patches find no room in the box is
    drawn anew. Quads of patches are laid at random inside it; each gives one pair of every
    position. A box in which they never find room (in an image of more than 450 000 pixels, or with
    larger patches) is left out.

    Args:
        objects: what to draw from.
        patch_size: side of a patch in pixels.
        num_boxes: most boxes, drawn without repetition.
        pairs_per_box: a multiple of 8.
        seed: seed of all draws.

    Yields:
        (class, batch as `grid_batches` gives them, of one canvas: the inside of the box).
    """
    generator = np.random.default_rng(seed)
    read = encoded_reader(objects.manifest)
    count = 0
    for index in generator.permutation(len(objects.classes)):
        image = decode_image(read(tf.constant(objects.rows[index], tf.int64))).numpy()
        inside = _scaled_inside(image, objects.boxes[index], 2 * patch_size + GAP, generator)
        if inside is not None:
            yield (
                objects.classes[index],
                _quad_batch(inside, patch_size, pairs_per_box // 8, generator),
            )
            count += 1
        if count == num_boxes:
            return


def _scaled_inside(
    image: np.ndarray, box: np.ndarray, min_side: int, generator: np.random.Generator
) -> np.ndarray | None:
    """Gives the inside of a box, its image scaled at random, or None where it stays too small."""
    size = np.array(image.shape[:2])
    # Where all draws are unlucky, the largest area serves, as in `grid_batches`.
    areas = [*generator.uniform(_MIN_PIXELS, _MAX_PIXELS, _DRAWS), _MAX_PIXELS]
    for scale in np.sqrt(np.array(areas) / size.prod()):
        # The tiny number keeps whole numbers whole.
        height, width = (int(side) for side in size * scale + 1e-6)
        limits = [width, height, width, height]
        left, top, right, bottom = np.clip((box * scale + 1e-6).astype(int), 0, limits)
        if min(right - left, bottom - top) >= min_side:
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            scaled = cv2.resize(image, (width, height), interpolation=method)
            return scaled[top:bottom, left:right]
    return None


def _quad_batch(
    inside: np.ndarray, patch_size: int, num_quads: int, generator: np.random.Generator
) -> dict[str, Any]:
    size = np.array(inside.shape[:2], np.int32)
    pitch = patch_size + GAP
    steps = pitch * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # [patch, axis]
    origins = generator.integers(0, size - pitch - patch_size + 1, (num_quads, 2))
    corners = (origins[:, None] + steps).reshape(-1, 2)
    pairs = [
        (4 * quad + first, 4 * quad + second, position)
        for quad in range(num_quads)
        for position, choices in enumerate(_PAIRS)
        for first, second in [choices[generator.integers(len(choices))]]
    ]
    canvas = np.zeros((1, _MAX_PIXELS, 3), np.uint8)
    canvas[0, : size.prod()] = inside.reshape(-1, 3)
    return {
        "canvases": canvas,
        "sizes": size[None],
        "corners": np.pad(corners, ((0, 0), (1, 0))).astype(np.int32),
        "pairs": np.array(pairs, np.int32),
        "seed": generator.integers(0, 2**31 - 1, 2, dtype=np.int32),
    }
