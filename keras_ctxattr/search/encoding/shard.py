"""One shard: its files as bytes, and whether those that lie there are what belongs there."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE
from keras_ctxattr.search.encoding.plan import Unit

FORMAT = 1
"""Of a shard; raised when a reader of the old one would fail."""

ABOUT = "shard.json"

# Other errors are of the disk or the network, not of the shard.
_ABSENT = (FileNotFoundError, NotADirectoryError)

Read = Callable[[str], bytes]
"""From the name of a shard's file to what is in it; FileNotFoundError where it is not there."""


class ShardError(ValueError):
    """A shard that is missing, damaged or not where it belongs; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One image that was described.

    Attributes:
        image_id: Its place in the collection.
        code: Uint8 `[num_attributes / 8]`.
        vector: Float16 `[num_features]`; None where vectors are not kept.
        digest: BLAKE2b of the file's bytes, 32 hexadecimal digits.
    """

    image_id: int
    code: np.ndarray
    vector: np.ndarray | None
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What the rows of a table look like.

    Attributes:
        num_attributes: Bits of a code.
        num_features: Numbers of a vector.
        keep_vectors: Whether there are vectors.
    """

    num_attributes: int
    num_features: int
    keep_vectors: bool

    def columns(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Gives the shape of a row and the type of each column."""
        columns: dict[str, tuple[tuple[int, ...], type]] = {
            "image_ids": ((), np.int64),
            "codes": ((self.num_attributes // 8,), np.uint8),
            "digests": ((16,), np.uint8),
        }
        if self.keep_vectors:
            columns["vectors"] = ((self.num_features,), np.float16)
        return columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What a shard holds.

    Attributes:
        num_images: Images that were described.
        skipped: (key, reason) of images that cannot be used.
        num_others: Files that are no images.
        num_bytes: Bytes of all its files.
    """

    num_images: int
    skipped: tuple[tuple[str, str], ...]
    num_others: int
    num_bytes: int


def pack_shard(
    unit: Unit, rows: Sequence[Row], skipped: Sequence[tuple[int, str]], layout: Layout
) -> dict[str, bytes]:
    """Gives the files of a shard, the one that makes it count last.

    Args:
        unit: Its range.
        rows: The images that were described, by place.
        skipped: (place, reason) of the others, by place.
        layout: What rows look like.
    """
    values: dict[str, list[Any]] = {
        "image_ids": [row.image_id for row in rows],
        "codes": [row.code for row in rows],
        "digests": [np.frombuffer(bytes.fromhex(row.digest), np.uint8) for row in rows],
        "vectors": [row.vector for row in rows],
    }
    files = {
        f"{name}.npy": _to_npy(np.array(values[name], kind).reshape(len(rows), *shape))
        for name, (shape, kind) in layout.columns().items()
    }
    about = {
        "format": FORMAT,
        "start": unit.start,
        "stop": unit.stop,
        "files": {name: _digest(content) for name, content in files.items()},
        "skipped": [list(one) for one in skipped],
        "keys": unit.keys,
    }
    # Only ASCII: a file name need not be valid Unicode, and comes back as it was.
    return {**files, ABOUT: json.dumps(about).encode("ascii")}


def check_place(unit: Unit, path: str, read: Read) -> dict[str, Any]:
    """Checks that a shard is that of these files; gives what it says of itself.

    Raises:
        ShardError: If it is not, or says nothing.
    """
    try:
        about = json.loads(read(ABOUT))
        start, stop, keys = (about[name] for name in ("start", "stop", "keys"))
        _ = about["files"], about["skipped"]
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']} instead of {FORMAT}")
    except (*_ABSENT, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"{ABOUT} is not whole ({_line(error)})") from error
    if (start, stop) != (unit.start, unit.stop):
        raise ShardError(
            "A shard must be in its own place, or images are there twice; delete this folder and "
            f"give the same command again. Received: {path} with images {start} to {stop - 1}, "
            f"which belong elsewhere; here belong {unit.start} to {unit.stop - 1}"
        )
    if keys != unit.keys:
        raise _damaged(path, "it names other images than the collection")
    return about


def check_shard(unit: Unit, path: str, read: Read, layout: Layout) -> Contents:
    """Reads a whole shard and checks that each of its files is in it once.

    Raises:
        ShardError: If the shard is damaged, or of other images.
    """
    about = check_place(unit, path, read)
    ids, num_bytes = _check_columns(about, path, read, layout)
    places = [place for place, _ in about["skipped"]]
    if sorted([*ids, *places]) != list(range(unit.start, unit.stop)):
        raise _damaged(path, "an image is missing in it, or there twice")
    keys = unit.keys
    unusable = tuple(
        (keys[place - unit.start], reason)
        for place, reason in about["skipped"]
        if reason != NOT_AN_IMAGE
    )
    return Contents(
        num_images=len(ids),
        skipped=unusable,
        num_others=len(places) - len(unusable),
        num_bytes=num_bytes + len(json.dumps(about)),
    )


def _check_columns(
    about: dict[str, Any], path: str, read: Read, layout: Layout
) -> tuple[list[int], int]:
    """Gives the places of the images in a shard, and the bytes of its columns."""
    ids: list[int] = []
    count, num_bytes = None, 0
    for name, (shape, kind) in layout.columns().items():
        try:
            content = read(f"{name}.npy")
            values = np.load(io.BytesIO(content), allow_pickle=False)
        except (*_ABSENT, ValueError, EOFError) as error:
            raise _damaged(path, f"{name}.npy is not whole ({_line(error)})") from error
        if about["files"].get(f"{name}.npy") != _digest(content):
            raise _damaged(path, f"{name}.npy has other bytes than were written")
        count = len(values) if count is None else count
        if values.shape != (count, *shape) or values.dtype != kind:
            raise _damaged(path, f"{name}.npy holds {values.dtype} {list(values.shape)}")
        if name == "image_ids":
            ids = values.tolist()
        num_bytes += len(content)
    return ids, num_bytes


def _to_npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _damaged(path: str, what: str) -> ShardError:
    return ShardError(
        "A shard must be as it was written; delete this folder and give the same command again. "
        f"Received: {path}: {what}"
    )


def _line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]
