"""Segments: codes, scores and vectors of some images, in files that are written once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.runs import write_atomically

COLUMNS = ("ids", "codes", "scores", "vectors")

_ROWS_AT_A_TIME = 8192


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What is known of some images.

    Attributes:
        ids: Int64 `[n]`.
        codes: Uint8 `[n, num_attributes / 8]`, packed as `np.packbits` does.
        scores: Float16 `[n, num_attributes]`, what images are ranked by within an attribute.
        vectors: Float16 `[n, num_features]` of unit length, or None where none are kept.
    """

    ids: np.ndarray
    codes: np.ndarray
    scores: np.ndarray
    vectors: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, np.ndarray]:
        """Gives the columns that are there, by name."""
        found = {name: getattr(self, name) for name in COLUMNS}
        return {name: values for name, values in found.items() if values is not None}


class StoredRows:
    """The rows of several segments that count, of which only what is asked for is read.

    All files are mapped at once, so that what is removed later can still be read.

    Args:
        folders: Of the segments.
        keep: Int64 `[images]`: the ids that count; others are of images that were removed.
        has_vectors: Whether the segments hold vectors.

    Attributes:
        ids: Int64 `[n]`, ascending.
        columns: Names of the columns that the segments have.

    Raises:
        FileNotFoundError: If a segment is not there.
        ValueError: If an image is in no segment, or in two.
    """

    def __init__(self, folders: Sequence[Path], keep: np.ndarray, *, has_vectors: bool) -> None:
        self.columns = COLUMNS if has_vectors else COLUMNS[:-1]
        self._maps = {
            name: [np.load(folder / f"{name}.npy", mmap_mode="r") for folder in folders]
            for name in self.columns
        }
        counts = [len(part) for part in self._maps["ids"]]
        self._starts = np.cumsum([0, *counts])
        stored = np.concatenate([np.empty(0, np.int64), *self._maps["ids"]])
        rows = np.flatnonzero(np.isin(stored, keep))
        self._rows = rows[np.argsort(stored[rows], kind="stable")]
        self.ids = stored[self._rows]
        if len(self.ids) != len(keep) or np.any(np.diff(self.ids) == 0):
            raise ValueError(
                "Every image of an index must be in one segment; index the photographs anew. "
                f"Received: {len(keep)} images, {len(self.ids)} rows of theirs"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, column: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Gives a column of some rows, in the order of `rows`."""
        places = self._rows[rows]
        parts = self._maps[column]
        result = np.empty((len(places), *parts[0].shape[1:]), parts[0].dtype)
        segments = np.searchsorted(self._starts, places, side="right") - 1
        for segment in np.unique(segments):
            mask = segments == segment
            result[mask] = parts[segment][places[mask] - self._starts[segment]]
        return result


def write_segment(folder: Path, rows: Rows) -> None:
    """Writes a segment, whole or not at all."""
    columns = rows.columns()
    num_bytes = sum(values.nbytes for values in columns.values())
    with write_atomically(folder, num_bytes=num_bytes) as partial:
        partial.mkdir()
        for name, values in columns.items():
            np.save(partial / f"{name}.npy", values)


def merge_segments(folder: Path, rows: StoredRows) -> None:
    """Writes a segment of rows that lie in others, a part of them in memory at a time."""
    with write_atomically(folder) as partial:
        partial.mkdir()
        for name in rows.columns:
            first = rows.read(name, slice(0, 1))
            merged = np.lib.format.open_memmap(
                partial / f"{name}.npy", "w+", first.dtype, (len(rows), *first.shape[1:])
            )
            for part in _parts(len(rows)):
                merged[part] = rows.read(name, part)
            merged.flush()


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _ROWS_AT_A_TIME):
        yield slice(start, min(start + _ROWS_AT_A_TIME, count))
