"""The folder of an index: images in SQLite, their codes and vectors in files that never change.

    index/
      index.sqlite     what is indexed, where it lies, and which segments count
      segments/N/      ids.npy, codes.npy, scores.npy, vectors.npy: the rows of one commit
      module/          what describes images and queries

A segment is written beside its place, flushed and renamed before the transaction that makes it
count. So a process that is killed at any moment leaves the index as it was after its last
transaction, and perhaps a segment that does not count, which the next writer removes. A reader
takes a snapshot in one transaction.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.export import read_module
from keras_ctxattr.runs import write_atomically
from keras_ctxattr.runs.writing import remove, remove_partials
from keras_ctxattr.search.records import (
    IMAGE_COLUMNS,
    PLACE_COLUMNS,
    IndexedImage,
    Place,
    SkippedImage,
    image_values,
    place_values,
    read_image,
    read_place,
    to_sql,
    to_text,
)
from keras_ctxattr.search.segments import Rows, StoredRows, merge_segments, write_segment

FORMAT = 1
DATABASE = "index.sqlite"
MODULE = "module"
SEGMENTS = "segments"
LOCK = ".lock"
MAX_SEGMENTS = 24
"""More than these are merged: a reader has every file of every segment open."""

_BUSY_SECONDS = 60.0
_CHUNK = 500  # SQLite takes a limited number of parameters
_SNAPSHOT_TRIES = 5
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sources (id INTEGER PRIMARY KEY, place BLOB UNIQUE, label BLOB UNIQUE);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER, name BLOB UNIQUE,
    path BLOB, offset INTEGER, length INTEGER, total INTEGER, changed INTEGER,
    height INTEGER, width INTEGER, format TEXT, digest TEXT);
CREATE INDEX digests ON images(digest);
CREATE TABLE skipped (
    name BLOB PRIMARY KEY, source INTEGER,
    path BLOB, offset INTEGER, length INTEGER, total INTEGER, changed INTEGER,
    reason TEXT) WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY AUTOINCREMENT, count INTEGER);
"""


class ImageIndexError(ValueError):
    """An index that cannot be used as asked; the message is one line."""


class IndexStore:
    """The folder of an index, for one writer and any number of readers at a time.

    Args:
        folder: An index.

    Raises:
        ImageIndexError: If it is none, or of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / DATABASE).is_file():
            raise ImageIndexError(
                f"An index must be a folder that `ctxattr index` made. Received: {folder}"
            )
        self.about = self._read_about()

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
            "format": FORMAT,
            "generation": 0,
            "keep_vectors": int(keep_vectors),
            "num_attributes": described["attributes"]["num_attributes"],
            "num_features": described["num_features"],
            "module": digest_folder(Path(module)),
        }
        with write_atomically(target) as partial:
            partial.mkdir()
            shutil.copytree(module, partial / MODULE)
            (partial / SEGMENTS).mkdir()
            connection = sqlite3.connect(partial / DATABASE)
            with contextlib.closing(connection), connection:
                connection.executescript(_SCHEMA)
                connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        return cls(target)

    # --- reading ---

    def snapshot(self) -> tuple[int, StoredRows]:
        """Gives the number of the last change, and the rows of all images at that moment."""
        for left in reversed(range(_SNAPSHOT_TRIES)):
            with self._reading() as connection:
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
                return generation, self._rows([self._segment(n) for n in numbers], ids)
            except FileNotFoundError as error:  # merged in the meantime
                if not left:
                    raise ImageIndexError(
                        "All segments of an index must be there; index the photographs anew. "
                        f"Received: {self.folder}: {error}"
                    ) from error
        raise AssertionError  # the loop returns or raises

    def generation(self) -> int:
        """Gives the number of the last change."""
        with self._reading() as connection:
            return _value(connection, "generation")

    def images(self, ids: Iterable[int]) -> dict[int, IndexedImage]:
        """Gives images by id; those that were removed in the meantime are left out."""
        wanted = [int(image) for image in ids]
        with self._reading() as connection:
            return {image.image_id: image for image in _select(connection, "id", wanted)}

    def find(self, names: Sequence[str]) -> list[IndexedImage]:
        """Gives the images of these names that there are."""
        with self._reading() as connection:
            return list(_select(connection, "name", [to_sql(name) for name in names]))

    def all_images(self, source: int | None = None) -> Iterator[IndexedImage]:
        """Gives all images, or those of one collection, by id."""
        condition, values = ("WHERE source = ?", [source]) if source is not None else ("", [])
        query = f"SELECT {IMAGE_COLUMNS} FROM images {condition} ORDER BY id"
        with self._reading() as connection:
            yield from map(read_image, connection.execute(query, values).fetchall())

    def skipped(self, source: int | None = None) -> list[SkippedImage]:
        """Gives what could not be indexed, by name."""
        condition, values = ("WHERE source = ?", [source]) if source is not None else ("", [])
        query = (
            f"SELECT source, name, {PLACE_COLUMNS}, reason FROM skipped {condition} ORDER BY name"
        )
        with self._reading() as connection:
            return [
                SkippedImage(
                    source=row[0], name=to_text(row[1]), place=read_place(row[2:7]), reason=row[7]
                )
                for row in connection.execute(query, values)
            ]

    def sources(self) -> dict[int, tuple[str, str]]:
        """Gives (place, label) of every collection."""
        with self._reading() as connection:
            found = connection.execute("SELECT id, place, label FROM sources ORDER BY id")
            return {number: (to_text(place), to_text(label)) for number, place, label in found}

    # --- writing ---

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other writers out, and first removes what a killed one left.

        Raises:
            ImageIndexError: If another process is writing.
        """
        with (self.folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ImageIndexError(
                    "Only one process may change an index at a time; wait for the other one. "
                    f"Received: {self.folder}"
                ) from None
            self._remove_uncounted()
            yield

    def add_source(self, place: str, label: str) -> int:
        """Gives the number of a collection, a new one if it is not known.

        Args:
            place: Where it is; absolute.
            label: What its images' names begin with; a number is added where it is taken.
        """
        known = {stored: number for number, (stored, _) in self.sources().items()}
        if place in known:
            return known[place]
        taken = {stored for _, stored in self.sources().values()}
        free = (f"{label}~{number}" if number > 1 else label for number in range(1, 1 << 30))
        chosen = next(name for name in free if name not in taken)
        with self._changing() as connection:
            cursor = connection.execute(
                "INSERT INTO sources (place, label) VALUES (?, ?)",
                (to_sql(place), to_sql(chosen)),
            )
            return int(cursor.lastrowid or 0)

    def commit(
        self,
        added: Sequence[IndexedImage],
        rows: Rows | None,
        *,
        skipped: Sequence[SkippedImage] = (),
    ) -> None:
        """Adds images in one transaction; those of a name that is there take its place.

        Args:
            added: The images, whose `image_id` is not looked at.
            rows: Their rows in this order, whose `ids` are not looked at; None without images.
            skipped: What cannot be indexed; images of these names are removed.
        """
        ids = self._next_ids(len(added))
        number = None
        if rows is not None and len(rows):
            number = self._next_segment()
            write_segment(self._segment(number), dataclasses.replace(rows, ids=ids))
        with self._changing() as connection:
            names = [(to_sql(name),) for name in _names(added) + _names(skipped)]
            connection.executemany("DELETE FROM images WHERE name = ?", names)
            connection.executemany("DELETE FROM skipped WHERE name = ?", names)
            if number is not None:
                connection.execute("INSERT INTO segments VALUES (?, ?)", (number, len(added)))
            connection.executemany(
                f"INSERT INTO images ({IMAGE_COLUMNS}) VALUES ({', '.join('?' * 12)})",
                [
                    image_values(dataclasses.replace(image, image_id=int(image_id)))
                    for image_id, image in zip(ids, added, strict=True)
                ],
            )
            connection.executemany(
                "INSERT INTO skipped VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (to_sql(file.name), file.source, *place_values(file.place), file.reason)
                    for file in skipped
                ],
            )

    def touch(self, images: Iterable[tuple[int, Place]]) -> None:
        """Notes that images lie elsewhere, or changed without having other bytes."""
        with self._changing() as connection:
            connection.executemany(
                "UPDATE images SET path = ?, offset = ?, length = ?, total = ?, changed = ? "
                "WHERE id = ?",
                [(*place_values(place), image) for image, place in images],
            )

    def remove(self, names: Iterable[str]) -> int:
        """Removes images and skipped files by name, in one transaction, and counts the images."""
        values = [(to_sql(name),) for name in names]
        with self._changing() as connection:
            cursor = connection.executemany("DELETE FROM images WHERE name = ?", values)
            connection.executemany("DELETE FROM skipped WHERE name = ?", values)
            return cursor.rowcount

    def tidy(self) -> None:
        """Merges segments where there are many, and drops rows of removed images where many."""
        with self._reading() as connection:
            counts = dict(connection.execute("SELECT number, count FROM segments"))
            (num_images,) = connection.execute("SELECT COUNT(*) FROM images").fetchone()
        total = sum(counts.values())
        if total > 2 * num_images:
            chosen = list(counts)
        elif len(counts) > MAX_SEGMENTS:  # the large ones are left alone: they were merged before
            chosen = [number for number, count in counts.items() if 4 * count < total]
        else:
            return
        self._merge(sorted(chosen))

    def _merge(self, numbers: list[int]) -> None:
        folders = [self._segment(number) for number in numbers]
        stored = [np.empty(0, np.int64), *(np.load(folder / "ids.npy") for folder in folders)]
        _, everything = self.snapshot()
        kept = np.intersect1d(np.concatenate(stored), everything.ids)
        merged = self._next_segment()
        if len(kept):
            merge_segments(self._segment(merged), self._rows(folders, kept))
        with self._changing() as connection:
            connection.executemany(
                "DELETE FROM segments WHERE number = ?", [(number,) for number in numbers]
            )
            if len(kept):
                connection.execute("INSERT INTO segments VALUES (?, ?)", (merged, len(kept)))
        for folder in folders:
            remove(folder)

    def _remove_uncounted(self) -> None:
        with self._reading() as connection:
            counted = {
                str(number) for (number,) in connection.execute("SELECT number FROM segments")
            }
        root = self.folder / SEGMENTS
        remove_partials(root)
        for folder in root.iterdir():
            if folder.name not in counted:
                remove(folder)

    def _rows(self, folders: Sequence[Path], keep: np.ndarray) -> StoredRows:
        return StoredRows(folders, keep, has_vectors=bool(self.about["keep_vectors"]))

    def _next_ids(self, count: int) -> np.ndarray:
        return self._last("images") + 1 + np.arange(count)

    def _next_segment(self) -> int:
        return self._last("segments") + 1

    def _last(self, table: str) -> int:
        """Gives the largest number that was ever given in a table."""
        with self._reading() as connection:
            query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
            found = connection.execute(query, (table,)).fetchone()
        return int(found[0]) if found else 0

    def _segment(self, number: int) -> Path:
        return self.folder / SEGMENTS / str(number)

    # --- SQLite ---

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connect() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that is committed at its end, or never was."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("UPDATE about SET value = value + 1 WHERE name = 'generation'")
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(
                self.folder / DATABASE, timeout=_BUSY_SECONDS, isolation_level=None
            )
            with contextlib.closing(connection):  # a transaction that is open is rolled back
                yield connection
        except sqlite3.Error as error:
            raise ImageIndexError(
                "An index must be whole, on a disk that can be written; is the disk full? "
                f"Received: {self.folder / DATABASE}: {error}"
            ) from error

    def _read_about(self) -> dict[str, Any]:
        with self._reading() as connection:
            about = dict(connection.execute("SELECT name, value FROM about"))
        if about.get("format") != FORMAT:
            raise ImageIndexError(
                f"An index must be of format {FORMAT}, which this version of keras_ctxattr knows; "
                f"index the photographs anew. Received: format {about.get('format')}"
            )
        return about


def digest_folder(folder: Path) -> str:
    """Tells the files of a folder from others: a digest of their names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()


def _names(files: Sequence[IndexedImage] | Sequence[SkippedImage]) -> list[str]:
    return [file.name for file in files]


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
