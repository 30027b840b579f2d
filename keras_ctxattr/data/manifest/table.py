"""The table of a collection's images, and what can be asked of it and done with it."""

import dataclasses
import hashlib
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT_VERSION = 1
NOT_AN_IMAGE = "not an image"
DUPLICATE = "duplicate of "

_COLUMNS: dict[str, type] = {
    "image_ids": np.int64,
    "keys": object,
    "paths": object,
    "offsets": np.int64,
    "lengths": np.int64,
    "totals": np.int64,
    "heights": np.int32,
    "widths": np.int32,
    "formats": object,
    "orientations": np.int8,
    "digests": object,
    "skips": object,
}


class CollectionError(ValueError):
    """A collection of images that cannot be used; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """One row per file found in a collection, in the order of the keys, kept as columns.

    Attributes:
        image_ids: Int64 `[rows]`, 0...n-1 in key order at the scan; a selection keeps them.
        keys: Object `[rows]` of str: the path relative to the source, or the member's name; with
            several sources the source's own name and a slash stand before it. Unique.
        paths: Object `[rows]` of str: the file, or the container that holds the image.
        offsets: Int64 `[rows]`, where in that file the image starts, bytes.
        lengths: Int64 `[rows]`, bytes of the encoded image.
        totals: Int64 `[rows]`, bytes of the whole file; equal to `lengths` where the file is the
        image.
        heights: Int32 `[rows]`, pixels of the upright image; 0 where it could not be decoded.
        widths: Int32 `[rows]`, likewise.
        formats: Object `[rows]` of str: "jpeg", "png", ...; "" where unknown. An image that was
            converted keeps the name of its first format.
        orientations: Int8 `[rows]`, EXIF orientation 1...8 of the stored image.
        digests: Object `[rows]` of str: BLAKE2b of the image's bytes, 32 hexadecimal digits; ""
        where not read.
        skips: Object `[rows]` of str: why this row is not used, one line; "" for a usable row.
        sources: What was scanned.
    """

    image_ids: np.ndarray
    keys: np.ndarray
    paths: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    totals: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    formats: np.ndarray
    orientations: np.ndarray
    digests: np.ndarray
    skips: np.ndarray
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in _COLUMNS.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        sizes = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"All columns of a manifest must be equally long. Received: {sizes}")

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: np.ndarray) -> "Manifest":
        """Gives the manifest of some rows only: a mask (bool) or row numbers (integers)."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})

    def usable(self) -> "Manifest":
        """Gives the rows that are not skipped."""
        return self.select(self.skips == "")

    def digest(self) -> str:
        """Tells these images from others: a digest of ids, keys and contents, in their order."""
        digest = hashlib.blake2b(self.image_ids.tobytes(), digest_size=16)
        for columns in zip(self.keys, self.digests, strict=True):
            digest.update("\n".join(columns).encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def skip_where(self, mask: np.ndarray, reason: str | Sequence[str] | np.ndarray) -> "Manifest":
        """Gives a copy that skips the rows of `mask`; rows skipped before keep their reason.

        Args:
            mask: Bool `[rows]`.
            reason: One line for all, or one for each of the manifest's rows.
        """
        reasons = np.broadcast_to(np.asarray(reason, dtype=object), self.skips.shape)
        chosen = np.asarray(mask, dtype=bool) & (self.skips == "")
        return dataclasses.replace(self, skips=np.where(chosen, reasons, self.skips))

    def mark_too_small(
        self, *, min_side: int = 96, max_area: int = 450_000, above_side: int = 247
    ) -> "Manifest":
        """Gives a copy in which images too small for context prediction are skipped.

        Args:
            min_side: Pixels that the shorter side must have at least: one patch.
            max_area: Pixels of the largest size at which an image is loaded.
            above_side: Pixels that the shorter side must exceed at that size: two patches, a gap
            and a jitter.
        """
        shorter = np.minimum(self.heights, self.widths).astype(np.float64)
        area = np.maximum(self.heights.astype(np.float64) * self.widths, 1.0)
        enlarged = np.floor(shorter * np.sqrt(max_area / area))
        reasons = np.array(
            [
                f"too small: {height}x{width} (height x width)"
                for height, width in zip(self.heights, self.widths, strict=True)
            ],
            dtype=object,
        )
        return self.skip_where((shorter < min_side) | (enlarged <= above_side), reasons)

    def split(
        self,
        held_out: float,
        *,
        seed: int = 0,
        group_of: Callable[[str], str | None] | None = None,
    ) -> tuple["Manifest", "Manifest"]:
        """Divides the usable rows into training and held-out ones.

        The side of an image follows from a hash of its bytes alone: it stays the same whatever else
        is in the collection, and copies of one image are on one side. At least one image goes to
        each side.

        Args:
            held_out: Expected share of held-out images, in (0, 1).
            seed: Another number gives another split.
            group_of: From a key to the name of a group that must stay on one side (frames of one
                video, the two views of a stereo pair), or None for an image that is in no group.

        Returns:
            (training, held_out), each in key order.

        Raises:
            CollectionError: If there are not two different images (or groups) to divide.
        """
        if not 0.0 < held_out < 1.0:
            raise ValueError(f"`held_out` must lie between 0 and 1. Received: held_out={held_out}")
        rows = self.usable()
        names = [
            (group_of(key) if group_of else None) or digest
            for key, digest in zip(rows.keys, rows.digests, strict=True)
        ]
        draws = np.array([_hash_to_unit(f"{seed}:{name}") for name in names])
        levels = np.unique(draws)
        if len(levels) < 2:
            raise CollectionError(
                "At least two different usable images are needed to hold some out; add some. "
                f"Received: {len(rows)} usable, {len(levels)} different"
            )
        # The lowest draw is always held out, the highest never.
        mask = (draws < held_out) | (draws == levels[0])
        mask &= draws != levels[-1]
        return rows.select(~mask), rows.select(mask)

    def summary(self) -> dict[str, object]:
        """Gives counts of rows, formats, orientations and skips by reason, and sizes."""
        rows = self.usable()
        areas = rows.heights.astype(np.int64) * rows.widths
        return {
            "num_files": len(self),
            "num_usable": len(rows),
            "num_bytes": int(rows.lengths.sum()),
            "num_pixels": int(areas.sum()),
            "formats": dict(sorted(Counter(rows.formats).items())),
            "orientations": {
                int(key): count for key, count in sorted(Counter(rows.orientations).items())
            },
            "skips": count_reasons(self.skips),
            "heights": _spread(rows.heights),
            "widths": _spread(rows.widths),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the manifest as an SQLite file: beside its place first, then renamed."""
        target = Path(path)
        beside = target.with_name(f".{target.name}.{os.getpid()}.part")
        beside.unlink(missing_ok=True)
        try:
            with sqlite3.connect(beside) as connection:
                _write_tables(connection, self)
            connection.close()
            beside.replace(target)
        except sqlite3.Error as error:
            raise OSError(
                f"The manifest cannot be written; is the disk full? Received: {target}: {error}"
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Manifest":
        """Reads what `save` wrote.

        Raises:
            CollectionError: If the file is no manifest, or one of another version.
        """
        if not Path(path).is_file():
            raise CollectionError(f"A manifest must be a file that exists. Received: {path}")
        try:
            # Not `sqlite3.connect` as a context manager: that one commits but does not close.
            connection = sqlite3.connect(path)
            try:
                return cls(**_read_tables(connection))
            finally:
                connection.close()
        except (sqlite3.Error, KeyError, TypeError) as error:
            raise CollectionError(
                f"A manifest must be an SQLite file of version {FORMAT_VERSION} as `Manifest.save` "
                f"writes it; scan again. Received: {path}: {error}"
            ) from error


def count_reasons(skips: Sequence[str] | np.ndarray) -> dict[str, int]:
    """Counts reasons by kind: what stands before the colon, and duplicates as one kind."""
    kinds = (
        "duplicate" if skip.startswith(DUPLICATE) else skip.split(":")[0] for skip in skips if skip
    )
    return dict(sorted(Counter(kinds).items()))


def _spread(values: np.ndarray) -> dict[str, int]:
    if not len(values):
        return {}
    return {
        "min": int(values.min()),
        "median": int(np.median(values)),
        "max": int(values.max()),
    }


def _hash_to_unit(text: str) -> float:
    """Gives a number in [0, 1) that depends on nothing but the text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 * (1 - math.ulp(1.0))


# --- SQLite ---


def _write_tables(connection: sqlite3.Connection, manifest: Manifest) -> None:
    names = list(_COLUMNS)
    connection.execute("CREATE TABLE about (name TEXT, value BLOB)")
    connection.execute("INSERT INTO about VALUES ('version', ?)", (FORMAT_VERSION,))
    connection.executemany(
        "INSERT INTO about VALUES ('source', ?)", [(_to_sql(s),) for s in manifest.sources]
    )
    connection.execute(f"CREATE TABLE images ({', '.join(names)})")
    marks = ", ".join("?" * len(names))
    connection.executemany(f"INSERT INTO images VALUES ({marks})", _iterate_rows(manifest))


def _iterate_rows(manifest: Manifest) -> Iterator[tuple[object, ...]]:
    columns = [getattr(manifest, name) for name in _COLUMNS]
    for values in zip(*columns, strict=True):
        yield tuple(_to_sql(value) for value in values)


def _to_sql(value: object) -> object:
    if isinstance(value, str):  # a file name need not be valid UTF-8
        return value.encode("utf-8", "surrogateescape")
    return int(value)  # type: ignore[call-overload]


def _read_tables(connection: sqlite3.Connection) -> dict[str, Any]:
    about = list(connection.execute("SELECT name, value FROM about"))
    version = dict(about)["version"]
    if version != FORMAT_VERSION:
        raise KeyError(f"version {version}")
    values: dict[str, Any] = {}
    for name, kind in _COLUMNS.items():
        cells = (row[0] for row in connection.execute(f"SELECT {name} FROM images ORDER BY rowid"))
        if kind is object:
            cells = (cell.decode("utf-8", "surrogateescape") for cell in cells)
        values[name] = np.fromiter(cells, dtype=kind)
    values["sources"] = tuple(
        value.decode("utf-8", "surrogateescape") for name, value in about if name == "source"
    )
    return values
