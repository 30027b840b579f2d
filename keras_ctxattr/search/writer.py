"""Changes to an index: every one is a transaction, whose files are there before it.

A segment is written beside its place, flushed and renamed before the transaction that makes it
count. So a process that is killed at any moment leaves the index as it was after its last
transaction, and perhaps a segment that does not count, which the next writer removes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_ctxattr.runs.writing import remove, remove_partials
from keras_ctxattr.search.database import ImageIndexError
from keras_ctxattr.search.records import (
    IMAGE_COLUMNS,
    IndexedImage,
    Place,
    SkippedImage,
    image_values,
    place_values,
    to_sql,
)
from keras_ctxattr.search.segments import Rows, merge_segments, write_segment
from keras_ctxattr.search.store import SEGMENTS, IndexStore

LOCK = ".lock"
MAX_SEGMENTS = 24
"""More than these are merged: a reader has every file of every segment open."""


@contextlib.contextmanager
def open_writer(store: IndexStore) -> Iterator[IndexWriter]:
    """Keeps other writers out, and first removes what a killed one left.

    Raises:
        ImageIndexError: If another process is writing.
    """
    with (store.folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImageIndexError(
                "Only one process may change an index at a time; wait for the other one. "
                f"Received: {store.folder}"
            ) from None
        yield IndexWriter(store)


class IndexWriter:
    """Changes an index, which nobody else may be changing: see `open_writer`.

    Args:
        store: The index.
    """

    def __init__(self, store: IndexStore) -> None:
        self.store = store
        self.database = store.database
        self._remove_uncounted()

    def add_source(self, place: str, label: str) -> int:
        """Gives the number of a collection, a new one if it is not known.

        Args:
            place: Where it is; absolute.
            label: What its images' names begin with; a number is added where it is taken.
        """
        known = {stored: number for number, (stored, _) in self.store.sources().items()}
        if place in known:
            return known[place]
        taken = {stored for _, stored in self.store.sources().values()}
        free = (f"{label}~{number}" if number > 1 else label for number in range(1, 1 << 30))
        chosen = next(name for name in free if name not in taken)
        with self.database.changing() as connection:
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
            write_segment(self.store.segment(number), dataclasses.replace(rows, ids=ids))
        with self.database.changing() as connection:
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
        with self.database.changing() as connection:
            connection.executemany(
                "UPDATE images SET path = ?, offset = ?, length = ?, total = ?, changed = ? "
                "WHERE id = ?",
                [(*place_values(place), image) for image, place in images],
            )

    def remove(self, names: Iterable[str]) -> int:
        """Removes images and skipped files by name, in one transaction, and counts the images."""
        values = [(to_sql(name),) for name in names]
        with self.database.changing() as connection:
            cursor = connection.executemany("DELETE FROM images WHERE name = ?", values)
            connection.executemany("DELETE FROM skipped WHERE name = ?", values)
            return cursor.rowcount

    def tidy(self) -> None:
        """Merges segments where there are many, and drops rows of removed images where many."""
        with self.database.reading() as connection:
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
        folders = [self.store.segment(number) for number in numbers]
        stored = [np.empty(0, np.int64), *(np.load(folder / "ids.npy") for folder in folders)]
        _, everything = self.store.snapshot()
        kept = np.intersect1d(np.concatenate(stored), everything.ids)
        merged = self._next_segment()
        if len(kept):
            merge_segments(self.store.segment(merged), self.store.rows(folders, kept))
        with self.database.changing() as connection:
            connection.executemany(
                "DELETE FROM segments WHERE number = ?", [(number,) for number in numbers]
            )
            if len(kept):
                connection.execute("INSERT INTO segments VALUES (?, ?)", (merged, len(kept)))
        for folder in folders:
            remove(folder)

    def _remove_uncounted(self) -> None:
        with self.database.reading() as connection:
            counted = {
                str(number) for (number,) in connection.execute("SELECT number FROM segments")
            }
        root = self.store.folder / SEGMENTS
        remove_partials(root)
        for folder in root.iterdir():
            if folder.name not in counted:
                remove(folder)

    def _next_ids(self, count: int) -> np.ndarray:
        return self._last("images") + 1 + np.arange(count)

    def _next_segment(self) -> int:
        return self._last("segments") + 1

    def _last(self, table: str) -> int:
        """Gives the largest number that was ever given in a table."""
        with self.database.reading() as connection:
            query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
            found = connection.execute(query, (table,)).fetchone()
        return int(found[0]) if found else 0


def _names(files: Sequence[IndexedImage] | Sequence[SkippedImage]) -> list[str]:
    return [file.name for file in files]
