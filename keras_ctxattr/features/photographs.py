"""Whole photographs as feature vectors: one vector each, by a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import CollectionError, Manifest
from keras_ctxattr.data.shards import TableFolder
from keras_ctxattr.export import read_module
from keras_ctxattr.features.descriptors.base import check_finite
from keras_ctxattr.features.descriptors.module import ModuleFeatures
from keras_ctxattr.features.table import KIND, FeatureTable

Progress = Callable[[int, int | None], None]


def describe_photographs(
    manifest: Manifest,
    module: str | Path,
    folder: str | Path,
    *,
    shard_rows: int = 64,
    progress: Progress | None = None,
) -> FeatureTable:
    """Describes each photograph as a whole: `serve_bytes` of a module, in the order of the images.

    A photograph is scaled to about 300 000 pixels and goes through the network once; its vector is
    the mean over all places. Of a module whose features have unit length at every place (that of an
    `AttributeHasher`, or exported with `normalize=True`) these are what attributes of photographs
    are learnt of.

    Killed at any moment, the same call goes on after the whole shards and ends with the same bytes;
    a finished table is opened as it is.

    Args:
        manifest: the images; rows that are marked as skipped are left out, and those whose sides
            differ more than a module takes.
        module: folder that `export_module` wrote.
        folder: new, empty, or holding this table or a part of it.
        shard_rows: rows of every shard but the last; what a killed call loses at most.
        progress: called with (photographs described, all of them) after every shard.

    Returns:
        The table, a row an image whose box is the whole image, its vectors memory-mapped.

    Raises:
        ValueError: if there is no module, or the folder holds something else.
        CollectionError: if no image can be used.

    Reference:
        The unit is that of a code for search; Huang, Loy, Tang 2016 describe patches.
    """
    aspect = read_module(module)["input"]["encoded_max_aspect"]
    images = _choose(manifest, aspect)
    table = TableFolder.start(
        folder,
        KIND,
        {
            "images": images.digest(),
            "descriptor": {**ModuleFeatures(str(module)).config, "unit": "image"},
        },
        num_rows=len(images),
        shard_rows=shard_rows,
    )
    with table.lock():
        missing = table.missing_shards()
        done = len(images) - sum(np.diff(table.shard_range(shard))[0] for shard in missing)
        rows = [row for shard in missing for row in range(*table.shard_range(shard))]
        vectors = _vectors(images, rows, tf.saved_model.load(str(module)))
        for shard in missing:
            start, stop = table.shard_range(shard)
            table.write_shard(shard, _columns(images, start, stop, vectors))
            done += stop - start
            if progress is not None:
                progress(int(done), len(images))
    return FeatureTable.open(folder)


def _choose(manifest: Manifest, max_aspect: float) -> Manifest:
    sides = np.stack([manifest.heights, manifest.widths])
    is_thin = sides.max(axis=0) > max_aspect * np.maximum(sides.min(axis=0), 1)
    reason = f"sides differ more than {max_aspect:g} times"
    usable = manifest.skip_where(is_thin & (manifest.skips == ""), reason).usable()
    if not len(usable):
        raise CollectionError(
            "At least one image must be usable; `ctxattr check` lists what each lacks. Received: "
            f"{len(manifest)} images, all skipped"
        )
    return usable


def _vectors(manifest: Manifest, rows: list[int], module: Any) -> Iterator[np.ndarray]:
    """Gives the vector of each of the rows; files are read ahead."""
    read = encoded_reader(manifest)

    # There is nothing to convert, and AutoGraph says so at length.
    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tf.Tensor:
        return read(row)

    places = tf.data.Dataset.from_tensor_slices(np.array(rows, np.int64))
    files = places.map(load, num_parallel_calls=2, deterministic=True)
    for row, encoded in zip(rows, files.prefetch(4), strict=True):
        try:
            yield module.serve_bytes(encoded[None]).numpy()[0]
        except (tf.errors.InvalidArgumentError, tf.errors.CancelledError) as error:
            raise CollectionError(
                "The photographs must stay as they were when they were scanned: restore what "
                "changed and give the same command again. Received, not decodable: "
                f"{manifest.keys[row]}"
            ) from error


def _columns(
    manifest: Manifest, start: int, stop: int, vectors: Iterator[np.ndarray]
) -> dict[str, np.ndarray]:
    found = np.stack([next(vectors) for _ in range(start, stop)]).astype(np.float32)
    check_finite(found, start)
    corners = np.zeros((stop - start, 2))
    sides = np.stack([manifest.widths[start:stop], manifest.heights[start:stop]], axis=1)
    return {
        "image_ids": manifest.image_ids[start:stop].astype(np.int64),
        "boxes": np.concatenate([corners, sides], axis=1).astype(np.float32),
        "vectors": found,
    }
