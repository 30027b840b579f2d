"""TFDS data sets that are on this machine, unpacked once into an archive in the cache."""

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_ctxattr.data.manifest.cache import name_in_cache, write_beside
from keras_ctxattr.data.manifest.headers import detect_format
from keras_ctxattr.data.manifest.table import CollectionError

# The version is TFDS's own part of a name; splits may hold colons, as in train[:10%].
_SOURCE = re.compile(
    r"tfds:(?P<name>[^:]+(?::(?:\d+|\*)\.(?:\d+|\*)\.(?:\d+|\*))?)(?::(?P<split>.+))?"
)


def materialise_tfds(source: str, cache_dir: Path) -> Path:
    """Gives a tar archive with the images of a prepared TFDS data set; downloads nothing.

    Args:
        source: `tfds:NAME[:SPLIT]`; the split is "train" unless given.
        cache_dir: The archive is made here once.

    Raises:
        CollectionError: If the data set or split is unknown, not prepared on this machine, or
        without images.
    """
    matched = _SOURCE.fullmatch(source)
    if matched is None:
        raise CollectionError(
            f"A TFDS source must be written tfds:NAME or tfds:NAME:SPLIT. Received: {source}"
        )
    split = matched["split"] or "train"
    builder = _open_builder(matched["name"])
    feature = _find_image_feature(builder, source)
    info = builder.info
    target = cache_dir / "tfds" / f"{name_in_cache(info.full_name, builder.data_dir, split)}.tar"
    if not target.is_file():
        _write_archive(builder, split, feature, target)
    return target


def _open_builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"), try_gcs=False)
    except Exception as error:  # TFDS raises many kinds
        raise CollectionError(
            "A TFDS source must name a data set that tensorflow-datasets knows or finds in "
            f"TFDS_DATA_DIR. Received: {name}: {_first_line(error)}"
        ) from error


def _find_image_feature(builder: Any, source: str) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features or {}
    names = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not names:
        raise CollectionError(
            f"A TFDS source must have an image feature. Received: {source} with {sorted(features)}"
        )
    return "image" if "image" in names else names[0]


def _write_archive(builder: Any, split: str, feature: str, target: Path) -> None:
    import tensorflow_datasets as tfds

    try:
        rows = builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding(
                {feature}, decoders={feature: tfds.decode.SkipDecoding()}
            ),
        )
    except Exception as error:
        raise CollectionError(
            "A TFDS source must be prepared on this machine (TFDS_DATA_DIR says where; nothing is "
            "downloaded here) and have this split. "
            f"Received: {builder.info.full_name}, split {split}: {_first_line(error)}"
        ) from error
    with write_beside(target) as output, tarfile.open(fileobj=output, mode="w") as archive:
        for number, row in enumerate(rows):
            encoded = _to_bytes(row[feature])
            suffix = {"": "bin", "jpeg": "jpg"}.get(kind := detect_format(encoded[:32]), kind)
            member = tarfile.TarInfo(f"{number:08d}.{suffix}")
            member.size = len(encoded)
            archive.addfile(member, io.BytesIO(encoded))


def _to_bytes(image: tf.Tensor) -> bytes:
    """Gives encoded bytes as they are, and pixels, if a reader decodes all the same, as a PNG."""
    if image.dtype != tf.string:
        image = tf.io.encode_png(tf.cast(image, tf.uint8))
    return image.numpy()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
