"""The database of an index: its tables, and transactions that read or change them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
DATABASE = "index.sqlite"

_BUSY_SECONDS = 60.0
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


class IndexDatabase:
    """The SQLite file of an index.

    Its journal is SQLite's default, not the write-ahead log, which shared file systems do not bear.
    Readers keep a writer waiting for milliseconds.

    Args:
        folder: An index.

    Attributes:
        about: What does not change: `keep_vectors`, `num_attributes`, `num_features`, `module`.

    Raises:
        ImageIndexError: If it is none, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / DATABASE
        if not self.path.is_file():
            raise ImageIndexError(
                f"An index must be a folder that `ctxattr index` made. Received: {folder}"
            )
        with self.reading() as connection:
            self.about = dict(connection.execute("SELECT name, value FROM about"))
        if self.about.get("format") != FORMAT:
            raise ImageIndexError(
                f"An index must be of format {FORMAT}, which this version of keras_ctxattr knows; "
                f"index the photographs anew. Received: format {self.about.get('format')}"
            )

    @staticmethod
    def create(folder: Path, about: Mapping[str, Any]) -> None:
        """Makes the tables of an empty index."""
        stored = {"format": FORMAT, "generation": 0, **about}
        connection = sqlite3.connect(folder / DATABASE)
        with contextlib.closing(connection), connection:
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO about VALUES (?, ?)", stored.items())

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that sees one state of the index."""
        with self._connect() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that is committed at its end, or never was."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("UPDATE about SET value = value + 1 WHERE name = 'generation'")
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            with contextlib.closing(connection):  # a transaction that is open is rolled back
                yield connection
        except sqlite3.Error as error:
            raise ImageIndexError(
                "An index must be whole, on a disk that can be written; is the disk full? "
                f"Received: {self.path}: {error}"
            ) from error
