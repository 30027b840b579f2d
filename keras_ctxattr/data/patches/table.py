"""The table of patches, and how one is written so that a killed call goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.shards import ShardedArray, TableFolder, split_rows
from keras_ctxattr.runs import write_atomically

KIND = "patches"

PatchBatch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""`image_ids` int64 `[b]`, `boxes` float32 `[b, 4]`, `pixels` uint8 `[b, size, size, 3]`."""

Progress = Callable[[int, int | None], None]

_HASHED_ROWS = 1024  # at a time


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatchTable:
    """Square patches of images, one a row, and where each is from.

    Attributes:
        image_ids: Int64 `[n]`, ids of the manifest.
        boxes: Float32 `[n, 4]`: left, top, right, bottom in pixels of the upright source image.
        pixels: uint8 `[n, size, size, 3]`, RGB; an array, or memory-mapped shards.
        keys: From the id of every image that occurs to its key in the manifest.
        config: What made the table, as its `table.json` says; empty for one made by hand.

    Raises:
        ValueError: If the columns do not fit together.
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    pixels: np.ndarray | ShardedArray
    keys: Mapping[int, str] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the columns."""
        object.__setattr__(self, "image_ids", np.asarray(self.image_ids, np.int64))
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32))
        _check_batch(self.image_ids, self.boxes, self.pixels, self.pixels.shape[1:2])

    @classmethod
    def open(cls, folder: str | Path) -> PatchTable:
        """Opens a table that `cut_patches` or `write_patch_table` wrote; pixels stay on the disk.

        Raises:
            ValueError: If there is none, or it is not finished.
        """
        table = TableFolder.open(folder, KIND)
        return cls(
            image_ids=np.asarray(table.column("image_ids")),
            boxes=np.asarray(table.column("boxes")),
            pixels=table.column("pixels"),
            keys=_read_keys(table.path),
            config=table.config,
        )

    @property
    def size(self) -> int:
        """Side of a patch in pixels."""
        return self.pixels.shape[1]

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: np.ndarray) -> PatchTable:
        """Gives some rows, their pixels in memory: a mask (bool) or row numbers (integers)."""
        image_ids = self.image_ids[rows]
        return PatchTable(
            image_ids=image_ids,
            boxes=self.boxes[rows],
            pixels=self.pixels[rows],
            keys={i: self.keys[i] for i in np.unique(image_ids).tolist() if i in self.keys},
        )

    def digest(self) -> str:
        """Gives 32 hexadecimal digits that tell this table from others.

        They follow from the configuration of a table that was written by one, else from its pixels.
        """
        text = hashlib.blake2b(digest_size=16)
        text.update(self.image_ids.tobytes())
        text.update(self.boxes.tobytes())
        if self.config:
            text.update(json.dumps(dict(self.config), sort_keys=True).encode())
            return text.hexdigest()
        for start in range(0, len(self), _HASHED_ROWS):
            text.update(np.ascontiguousarray(self.pixels[start : start + _HASHED_ROWS]).tobytes())
        return text.hexdigest()


def write_patch_table(
    folder: str | Path,
    num_patches: int | None,
    make_batches: Callable[[int], Iterable[PatchBatch]],
    config: Mapping[str, Any],
    keys: Mapping[int, str],
    *,
    size: int,
    shard_rows: int = 4096,
    progress: Progress | None = None,
) -> PatchTable:
    """Writes patches from any source shard by shard, or goes on after the last whole shard.

    Killed at any moment, the same call again ends with the same bytes, provided that
    `make_batches(first_row)` gives what `make_batches(0)` gives from that row on. A finished table
    is opened as it is. At most two shards are in memory.

    Args:
        folder: New, empty, or holding this table or a part of it.
        num_patches: Patches in all, None if only the end of the batches will tell.
        make_batches: From the number of the first patch wanted to the batches from there on, of any
            lengths: (`image_ids` int64 `[b]`, `boxes` float32 `[b, 4]` xyxy in upright source
            pixels, `pixels` uint8 `[b, size, size, 3]`).
        config: Every choice that the patches depend on; JSON types.
        keys: From the id of every image that occurs to its key.
        size: Side of a patch in pixels.
        shard_rows: Patches of every shard but the last.
        progress: Called with (patches written, patches in all or None) after every shard.

    Returns:
        The table, its pixels memory-mapped.

    Raises:
        ValueError: If the folder holds something else or patches of another configuration, if
            another process writes there, or if the batches are not as described.
    """
    described = {**config, "size": size, "keys": _hash_keys(keys)}
    table = TableFolder.start(folder, KIND, described, num_rows=num_patches, shard_rows=shard_rows)
    with table.lock():
        if not (table.path / "keys.npy").exists():
            _write_keys(table.path, keys)
        if table.num_rows is None or table.missing_shards():
            _write_shards(table, make_batches, _Checker(keys, size), progress)
    return PatchTable.open(folder)


class _Checker:
    """Lets batches through that fit together.

    Args:
        keys: Its ids are those that may occur.
        size: Side of a patch in pixels.
    """

    def __init__(self, keys: Mapping[int, str], size: int) -> None:
        self.keys = keys
        self.size = size

    def __call__(self, batches: Iterable[PatchBatch]) -> Iterator[PatchBatch]:
        for given_ids, given_boxes, given_pixels in batches:
            image_ids, pixels = np.asarray(given_ids, np.int64), np.asarray(given_pixels)
            boxes = np.asarray(given_boxes, np.float32)
            _check_batch(image_ids, boxes, pixels, (self.size,))
            unknown = [number for number in image_ids.tolist() if number not in self.keys]
            if unknown:
                raise ValueError(
                    "`keys` must name every image that occurs in the batches. "
                    f"Received: image id {unknown[0]} without a key"
                )
            yield image_ids, boxes, pixels


def _write_shards(
    table: TableFolder,
    make_batches: Callable[[int], Iterable[PatchBatch]],
    check: _Checker,
    progress: Progress | None,
) -> None:
    """Writes what is missing, from the first missing shard on."""
    shard = table.num_whole
    num_rows = _count_rows(table, shard)
    batches = check(make_batches(num_rows)) if num_rows == shard * table.shard_rows else iter(())
    for columns in split_rows(batches, table.shard_rows):
        table.write_shard(shard, dict(zip(("image_ids", "boxes", "pixels"), columns, strict=True)))
        shard, num_rows = shard + 1, num_rows + len(columns[0])
        if progress is not None:
            progress(num_rows, table.num_rows)
    if num_rows != (table.num_rows or max(num_rows, 1)):
        raise ValueError(
            "The batches must hold at least one patch, and `num_patches` where that is given. "
            f"Received: {num_rows} patches, num_patches={table.num_rows}"
        )
    table.finish(num_rows)


def _count_rows(table: TableFolder, num_shards: int) -> int:
    """Gives the rows of the first shards; only the last of a table is not full."""
    if not num_shards:
        return 0
    last = ShardedArray([table.shard_path(num_shards - 1) / "image_ids.npy"])
    return (num_shards - 1) * table.shard_rows + len(last)


def _check_batch(
    image_ids: np.ndarray,
    boxes: np.ndarray,
    pixels: np.ndarray | ShardedArray,
    size: tuple[int, ...],
) -> None:
    """Refuses columns that do not fit together or hold no square patches."""
    count = len(image_ids)
    if not (
        image_ids.shape == (count,)
        and boxes.shape == (count, 4)
        and pixels.shape == (count, *size, *size, 3)
        and pixels.dtype == np.uint8
    ):
        side = size[0] if size else "size"
        raise ValueError(
            f"Patches must be `image_ids` [n], `boxes` [n, 4] and `pixels` uint8 [n, {side}, "
            f"{side}, 3], equally many. Received: {image_ids.shape}, {boxes.shape} and "
            f"{pixels.dtype} {pixels.shape}"
        )
    if not np.all(np.isfinite(boxes)) or np.any(boxes[:, 2:] <= boxes[:, :2]):
        wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
        raise ValueError(
            "A box must be finite, with right > left and bottom > top. "
            f"Received: {boxes[wrong][0].tolist()} in row {np.flatnonzero(wrong)[0]}"
        )


# --- Keys, as bytes: a file name need not be valid UTF-8, which JSON must be ---


def _encode_keys(keys: Mapping[int, str]) -> tuple[np.ndarray, np.ndarray]:
    ids = sorted(keys)
    texts = [keys[i].encode("utf-8", "surrogateescape") for i in ids]
    return np.array(ids, np.int64), np.array(texts, np.bytes_)


def _hash_keys(keys: Mapping[int, str]) -> str:
    ids, texts = _encode_keys(keys)
    return hashlib.blake2b(ids.tobytes() + texts.tobytes(), digest_size=16).hexdigest()


def _write_keys(folder: Path, keys: Mapping[int, str]) -> None:
    for name, values in zip(("key_ids", "keys"), _encode_keys(keys), strict=True):
        with write_atomically(folder / f"{name}.npy", num_bytes=values.nbytes) as partial:
            np.save(partial, values, allow_pickle=False)


def _read_keys(folder: Path) -> dict[int, str]:
    ids, texts = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("key_ids", "keys")
    )
    decoded = (text.decode("utf-8", "surrogateescape") for text in texts.tolist())
    return dict(zip(ids.tolist(), decoded, strict=True))
