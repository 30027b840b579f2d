"""Rows of several files, seen as one array."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

# Shards of one array that are mapped at a time: each map keeps a file handle open, and a process
# often may have no more than 1024.
_MAX_MAPS = 32


class ShardedArray:
    """The rows of several `.npy` files seen as one array, of which only what is asked for is read.

    Indexing gives numpy arrays that are copies, never views: by an integer, a slice, a mask (bool
    `[rows]`) or row numbers (integers `[n]`, in any order, repeated as you like; negative ones
    count from the end). `numpy.asarray` reads everything. It can be sent to another process.

    Args:
        paths: The files in order, at least one; equal in dtype and in all axes but the first.

    Attributes:
        paths: The files.
        shape: Rows of all files, then the axes of a row.
        dtype: Of the elements.

    Raises:
        ValueError: If there is no file, one is damaged, or they do not fit together.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in range(3):
        ...     np.save(folder / f"{number}.npy", 10 * number + np.arange(4))
        >>> rows = ShardedArray(sorted(folder.glob("*.npy")))
        >>> rows.shape, rows[[11, 0, 5]].tolist(), rows[3:6].tolist()
        ((12,), [23, 0, 11], [3, 10, 11])
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths:
            raise ValueError("A sharded array must have at least one file. Received: none")
        headers = [_read_header(path) for path in self.paths]
        for path, (shape, dtype) in zip(self.paths, headers, strict=True):
            if (shape[1:], dtype) != (headers[0][0][1:], headers[0][1]):
                raise ValueError(
                    "All shards must have rows of one shape and dtype; write them anew. Received: "
                    f"{path} with {shape}, {dtype} beside {headers[0][0]}, {headers[0][1]}"
                )
        self._ends = np.cumsum([shape[0] for shape, _ in headers])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *headers[0][0][1:])
        self.dtype: np.dtype = headers[0][1]
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, on the disk."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ShardedArray(shape={self.shape}, dtype={self.dtype}, shards={len(self.paths)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedArray, (self.paths,)  # not the maps, which would be read and sent

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "A sharded array becomes one array only by a copy; leave out `copy`. "
                "Received: copy=False"
            )
        rows = self[:]
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self._gather(self._check_rows(np.array([index])))[0]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._read(start, max(start, stop))
            return self._gather(np.arange(start, stop, step))
        return self._gather(self._check_rows(self._as_rows(index)))

    def _as_rows(self, index: Any) -> np.ndarray:
        """Gives row numbers for a mask or for row numbers."""
        rows = np.asarray(index) if not isinstance(index, tuple) else np.empty(0, object)
        if rows.ndim == 1 and rows.size == 0 and not isinstance(index, tuple | np.ndarray):
            rows = rows.astype(np.int64)  # an empty list
        if rows.ndim == 1 and rows.dtype.kind in "iu":
            return rows.astype(np.int64)
        if rows.shape == (len(self),) and rows.dtype == bool:
            return np.flatnonzero(rows)
        raise IndexError(
            "Rows are chosen by an integer, a slice, a mask of one bool a row or integers [n]; "
            f"index the other axes of the result. Received: {_name_index(index)}"
        )

    def _check_rows(self, rows: np.ndarray) -> np.ndarray:
        """Gives row numbers counted from the start."""
        outside = (rows < -len(self)) | (rows >= len(self))
        if outside.any():
            raise IndexError(
                f"Rows must lie in {-len(self)}...{len(self) - 1}. Received: {rows[outside][0]}"
            )
        return np.where(rows < 0, rows + len(self), rows)

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Gives consecutive rows."""
        result = np.empty((stop - start, *self.shape[1:]), self.dtype)
        position = start
        while position < stop:
            shard = int(np.searchsorted(self._ends, position, side="right"))
            rows = self._map(shard)
            first = int(self._ends[shard]) - len(rows)
            part = rows[position - first : stop - first]
            result[position - start : position - start + len(part)] = part
            position += len(part)
        return result

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Gives rows in any order; each shard is visited once, from its start to its end."""
        result = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")
        shards = np.searchsorted(self._ends, rows[order], side="right")
        borders = np.flatnonzero(np.diff(shards)) + 1
        for places in np.split(order, borders) if len(order) else ():
            shard = int(np.searchsorted(self._ends, rows[places[0]], side="right"))
            part = self._map(shard)
            result[places] = part[rows[places] - (int(self._ends[shard]) - len(part))]
        return result

    def _map(self, shard: int) -> np.ndarray:
        """Maps a shard, and lets go of the one that was used longest ago."""
        if shard in self._maps:
            self._maps.move_to_end(shard)
            return self._maps[shard]
        num_rows = int(self._ends[shard]) - (int(self._ends[shard - 1]) if shard else 0)
        if num_rows:
            rows = np.load(self.paths[shard], mmap_mode="r", allow_pickle=False)
        else:  # nothing cannot be mapped
            rows = np.empty((0, *self.shape[1:]), self.dtype)
        self._maps[shard] = rows
        if len(self._maps) > _MAX_MAPS:
            self._maps.popitem(last=False)
        return self._maps[shard]


def _name_index(index: Any) -> str:
    if isinstance(index, np.ndarray):
        return f"{index.dtype} {list(index.shape)}"
    return repr(index)[:80]


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Gives shape and dtype of a `.npy` file, and checks that it is whole."""
    try:
        with path.open("rb") as file:
            shape, dtype = _parse_header(file)
            expected = file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or not shape or path.stat().st_size != expected:
            raise ValueError(f"{path.stat().st_size} bytes instead of {expected}")
    except (OSError, ValueError) as error:
        raise ValueError(
            "A shard must be a whole .npy file of rows; delete its folder and run the call that "
            f"makes it again. Received: {path}: {error}"
        ) from error
    return shape, dtype


def _parse_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version}")
    shape, is_fortran, dtype = read(file)
    if is_fortran and len(shape) > 1:
        raise ValueError("columns lie one after the other")
    return shape, dtype
