"""Queries: an image file, or an image of the index by its name; and the pixels of both."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import load_entry
from keras_ctxattr.data.manifest.scan import MAX_PIXELS
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.search.database import ImageIndexError
from keras_ctxattr.search.describing import Description, UndecodableError, decode_pixels
from keras_ctxattr.search.images import ImageIndex
from keras_ctxattr.search.pixels import read_pixels
from keras_ctxattr.search.records import IndexedImage


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """What is looked up.

    Attributes:
        name: As it was given.
        description: Its code, scores and vector.
        image: The image of the index that was named; None for a file.
        encoded: The contents of a file, in a format that TensorFlow reads; b"" for an image of
            the index.
    """

    name: str
    description: Description
    image: IndexedImage | None = None
    encoded: bytes = b""

    def pixels(self) -> np.ndarray:
        """Gives the upright pixels, uint8 `[height, width, 3]`.

        Raises:
            UnavailableError: If an image of the index is gone or changed.
        """
        return decode_pixels(self.encoded) if self.image is None else read_pixels(self.image)


def find_query(index: ImageIndex, given: str) -> Query:
    """Gives the query of a path, or of a name in the index.

    A file that is there goes before a name, unless the index has the same bytes under this name.

    Args:
        index: The index.
        given: Path of an image file of any format that indexing reads; or a name.

    Raises:
        ImageIndexError: If there is neither.
        UndecodableError: If there is a file that cannot be used.
    """
    named = next(iter(index.store.find([given])), None)
    if os.path.isfile(given):  # noqa: PTH113 - a name need not be UTF-8
        encoded, digest = _read_file(given)
        if named is None or named.digest != digest:
            return Query(name=given, description=_describe(index, given, encoded), encoded=encoded)
    if named is None:
        raise ImageIndexError(
            "A query must be an image file, or the name of an image as `ctxattr search` shows it. "
            f"Received: {given}, which is neither"
        )
    return Query(name=given, description=describe_indexed(index, named), image=named)


def describe_indexed(index: ImageIndex, image: IndexedImage) -> Description:
    """Gives what the index keeps of one of its images; without vectors, one of no length.

    Raises:
        ImageIndexError: If the image is not in this snapshot of the index.
    """
    rows = index.rows_of([image.image_id])
    if rows[0] < 0:
        raise ImageIndexError(
            f"The index changed in the meantime; ask again. Received: {image.name}"
        )
    vectors = index.vectors(rows) if index.has_vectors else np.empty((1, 0), np.float32)
    return Description(code=index.codes[rows[0]], scores=index.scores(rows)[0], vector=vectors[0])


def _read_file(path: str) -> tuple[bytes, str]:
    """Gives the contents of an image file as TensorFlow reads them, and the digest of the file."""
    place = os.path.abspath(path)  # noqa: PTH100 - a name need not be UTF-8
    size = os.path.getsize(place)  # noqa: PTH202
    entry = Entry(
        key=Path(path).name.lstrip("."), path=place, length=size, total=size, must_be_image=True
    )
    facts, encoded = load_entry(entry, max_pixels=MAX_PIXELS, cache_dir=default_cache_dir())
    if facts.skip:
        raise _unusable(path, facts.skip)
    return encoded, facts.digest


def _describe(index: ImageIndex, path: str, encoded: bytes) -> Description:
    try:
        return index.describe(encoded)
    except UndecodableError as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: str, reason: str) -> UndecodableError:
    return UndecodableError(
        f"A query must be an image that can be decoded. Received: {path}: {reason}"
    )
