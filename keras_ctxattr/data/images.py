"""From the rows of a manifest to decoded images, in graph, in the manifest's order."""

import functools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image, read_encoded, read_region
from keras_ctxattr.data.manifest.table import CollectionError, Manifest

MAX_REGIONS = 64  # containers that get a node of their own in the graph


def encoded_reader(manifest: Manifest) -> Callable[[tf.Tensor], tf.Tensor]:
    """Gives a function from the number of a row to the bytes of its image.

    The function builds graph nodes only: it serves inside `tf.data`, also in any order and in
    parallel.

    Args:
        manifest: Usable rows only (`Manifest.usable`).

    Returns:
        A function from an int64 scalar in 0...rows-1 (the row, not the image id) to a string
        scalar.

    Raises:
        CollectionError: If the manifest is empty or has skipped rows.
    """
    _check_usable(manifest)
    is_whole = (manifest.offsets == 0) & (manifest.lengths == manifest.totals)
    containers, numbers = np.unique(manifest.paths[~is_whole].astype(str), return_inverse=True)
    if len(containers) > MAX_REGIONS:
        return _make_general_reader(manifest)
    kinds = np.full(len(manifest), len(containers), np.int32)
    kinds[~is_whole] = numbers
    return _make_region_reader(manifest, list(containers), kinds)


def load_images(manifest: Manifest, *, num_parallel_calls: int | None = None) -> tf.data.Dataset:
    """Gives the images of a manifest, decoded and upright, in the manifest's order.

    Args:
        manifest: Usable rows only (`Manifest.usable`).
        num_parallel_calls: Images decoded at the same time; None leaves it to `tf.data`.

    Returns:
        A finite data set of `{"image": uint8 [height, width, 3], "image_id": int64 []}`.

    Raises:
        CollectionError: If the manifest is empty or has skipped rows.
    """
    read_row = encoded_reader(manifest)
    image_ids = _Column(manifest.image_ids)

    # There is nothing to convert, and AutoGraph says so at length.
    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": decode_image(read_row(row)), "image_id": image_ids(row)}

    parallel = num_parallel_calls or tf.data.AUTOTUNE
    return tf.data.Dataset.range(len(manifest)).map(
        load, num_parallel_calls=parallel, deterministic=True
    )


def resize_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Scales an image: averages areas where it shrinks, interpolates linearly where it grows.

    Args:
        image: uint8 `[height, width, 3]`.
        size: int32 `[2]`, the new height and width in pixels, in about the image's proportions.

    Returns:
        Float32 `[*size, 3]` in 0...255, not rounded.
    """
    return tf.cond(
        size[0] < tf.shape(image)[0],
        lambda: tf.image.resize(image, size, method="area"),
        # The kernel for float32 takes half the time of the one for uint8; the values are the same.
        lambda: tf.image.resize(tf.cast(image, tf.float32), size, method="bilinear"),
    )


class _Column:
    """One column of a manifest, made a tensor in whichever graph asks first."""

    def __init__(self, values: np.ndarray) -> None:
        if values.dtype == object:
            values = np.array([os.fsencode(value) for value in values], dtype=object)
        # One eager tensor, captured by the graphs that use it: not copied into each as a constant.
        with tf.init_scope():
            self.values = tf.constant(values)

    def __call__(self, row: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.values, row)


def _make_general_reader(manifest: Manifest) -> Callable[[tf.Tensor], tf.Tensor]:
    columns = [
        _Column(values)
        for values in (manifest.paths, manifest.offsets, manifest.lengths, manifest.totals)
    ]

    def read_row(row: tf.Tensor) -> tf.Tensor:
        return read_encoded(*(column(row) for column in columns))

    return read_row


def _make_region_reader(
    manifest: Manifest, containers: list[str], kinds: np.ndarray
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes a reader with one branch for each container and a last one for whole files."""
    is_whole = kinds == len(containers)
    paths = _Column(np.where(is_whole, manifest.paths, ""))
    offsets, lengths, kind_column = (
        _Column(values) for values in (manifest.offsets, manifest.lengths, kinds)
    )
    totals = dict(zip(manifest.paths, manifest.totals, strict=True))
    for path in containers:
        _check_size(path, int(totals[path]))

    def read_row(row: tf.Tensor) -> tf.Tensor:
        offset, length = offsets(row), lengths(row)
        branches: list[Callable[[], tf.Tensor]] = [
            functools.partial(read_region, path, int(totals[path]), offset, length)
            for path in containers
        ]
        if is_whole.any():
            branches.append(lambda: tf.io.read_file(paths(row)))
        if len(branches) == 1:
            return branches[0]()
        return tf.switch_case(kind_column(row), branches)

    return read_row


def _check_usable(manifest: Manifest) -> None:
    num_skipped = int((manifest.skips != "").sum())
    if num_skipped or not len(manifest):
        raise CollectionError(
            "Images are read from usable rows only, of which there must be one at least: pass "
            f"`manifest.usable()`. Received: {len(manifest)} rows, {num_skipped} of them skipped"
        )


def _check_size(path: str, total: int) -> None:
    size = os.path.getsize(path) if os.path.exists(path) else None  # noqa: PTH110, PTH202 - bytes-safe
    if size != total:
        raise CollectionError(
            "A container must not change after the scan; scan the collection again. "
            f"Received: {path}: {size} bytes now, {total} at the scan"
        )
