"""The folder of an index: images in SQLite, their codes and vectors in files that never change.

    index/
      index.sqlite     what is indexed, where it lies, and which segments count
      segments/N/      ids.npy, codes.npy, scores.npy, vectors.npy: the rows of one commit
      module/          what describes images and queries

`keras_ctxattr.search.writer` changes it; here it is made and read. A reader takes a snapshot in one
transaction; files that are removed later can still be read by those who have them mapped.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.export import read_module
from keras_ctxattr.runs import write_atomically
from keras_ctxattr.search.database import ImageIndexError, IndexDatabase
from keras_ctxattr.search.records import (
    IMAGE_COLUMNS,
    PLACE_COLUMNS,
    IndexedImage,
    SkippedImage,
    read_image,
    read_place,
    to_sql,
    to_text,
)
from keras_ctxattr.search.segments import StoredRows

MODULE = "module"
SEGMENTS = "segments"

_CHUNK = 500  # SQLite takes a limited number of parameters
_SNAPSHOT_TRIES = 5


class IndexStore:
    """The folder of an index, for one writer and any number of readers at a time.

    Args:
        folder: An index.

    Raises:
        ImageIndexError: If it is none, or of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.database = IndexDatabase(self.folder)
        self.about = self.database.about

    @classmethod
    def create(cls, folder: str | Path, module: str | Path, *, keep_vectors: bool) -> IndexStore:
        """Makes an empty index, whole or not at all.

        Args:
            folder: New or empty.
            module: A module with attributes, which is copied.
            keep_vectors: Whether features are kept beside the codes.

        Raises:
            ImageIndexError: If something else is there.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ImageIndexError(
                f"An index must be made in a new or empty folder. Received: {folder}, which holds "
                "something else"
            )
        described = read_module(module)
        about = {
            "keep_vectors": int(keep_vectors),
            "num_attributes": described["attributes"]["num_attributes"],
            "num_features": described["num_features"],
            "module": digest_folder(Path(module)),
        }
        with write_atomically(target) as partial:
            partial.mkdir()
            shutil.copytree(module, partial / MODULE)
            (partial / SEGMENTS).mkdir()
            IndexDatabase.create(partial, about)
        return cls(target)

    # --- reading ---

    def snapshot(self) -> tuple[int, StoredRows]:
        """Gives the number of the last change, and the rows of all images at that moment."""
        for left in reversed(range(_SNAPSHOT_TRIES)):
            with self.database.reading() as connection:
                generation = _value(connection, "generation")
                numbers = [
                    number
                    for (number,) in connection.execute(
                        "SELECT number FROM segments ORDER BY number"
                    )
                ]
                found = connection.execute("SELECT id FROM images ORDER BY id")
                ids = np.fromiter((image for (image,) in found), np.int64)
            try:
                return generation, self.rows([self.segment(n) for n in numbers], ids)
            except FileNotFoundError as error:  # merged in the meantime
                if not left:
                    raise ImageIndexError(
                        "All segments of an index must be there; index the photographs anew. "
                        f"Received: {self.folder}: {error}"
                    ) from error
        raise AssertionError  # the loop returns or raises

    def generation(self) -> int:
        """Gives the number of the last change."""
        with self.database.reading() as connection:
            return _value(connection, "generation")

    def images(self, ids: Iterable[int]) -> dict[int, IndexedImage]:
        """Gives images by id; those that were removed in the meantime are left out."""
        wanted = [int(image) for image in ids]
        with self.database.reading() as connection:
            return {image.image_id: image for image in _select(connection, "id", wanted)}

    def find(self, names: Sequence[str]) -> list[IndexedImage]:
        """Gives the images of these names that there are."""
        with self.database.reading() as connection:
            return list(_select(connection, "name", [to_sql(name) for name in names]))

    def all_images(self, source: int | None = None) -> Iterator[IndexedImage]:
        """Gives all images, or those of one collection, by id."""
        condition, values = ("WHERE source = ?", [source]) if source is not None else ("", [])
        query = f"SELECT {IMAGE_COLUMNS} FROM images {condition} ORDER BY id"
        with self.database.reading() as connection:
            yield from map(read_image, connection.execute(query, values).fetchall())

    def skipped(self, source: int | None = None) -> list[SkippedImage]:
        """Gives what could not be indexed, by name."""
        condition, values = ("WHERE source = ?", [source]) if source is not None else ("", [])
        query = (
            f"SELECT source, name, {PLACE_COLUMNS}, reason FROM skipped {condition} ORDER BY name"
        )
        with self.database.reading() as connection:
            return [
                SkippedImage(
                    source=row[0], name=to_text(row[1]), place=read_place(row[2:7]), reason=row[7]
                )
                for row in connection.execute(query, values)
            ]

    def sources(self) -> dict[int, tuple[str, str]]:
        """Gives (place, label) of every collection."""
        with self.database.reading() as connection:
            found = connection.execute("SELECT id, place, label FROM sources ORDER BY id")
            return {number: (to_text(place), to_text(label)) for number, place, label in found}

    def rows(self, folders: Sequence[Path], keep: np.ndarray) -> StoredRows:
        """Gives the rows of some images in some segments."""
        return StoredRows(folders, keep, has_vectors=bool(self.about["keep_vectors"]))

    def segment(self, number: int) -> Path:
        """Gives the folder of a segment."""
        return self.folder / SEGMENTS / str(number)


def digest_folder(folder: Path) -> str:
    """Tells the files of a folder from others: a digest of their names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()


def _value(connection: sqlite3.Connection, name: str) -> int:
    (found,) = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return int(found)


def _select(
    connection: sqlite3.Connection, column: str, values: Sequence[Any]
) -> Iterator[IndexedImage]:
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK]
        marks = ", ".join("?" * len(part))
        query = f"SELECT {IMAGE_COLUMNS} FROM images WHERE {column} IN ({marks})"
        yield from map(read_image, connection.execute(query, part))
