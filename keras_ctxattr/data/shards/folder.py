"""The folder of a table: started, gone on with, finished, opened."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.shards.array import ShardedArray
from keras_ctxattr.runs import RunError, write_atomically, write_json
from keras_ctxattr.runs.identity import lock_folder, versions
from keras_ctxattr.runs.writing import json_types, remove_partials

FORMAT = 1
"""Of table folders; raised when a reader of the old one would fail."""

_DESCRIPTION = "table.json"


class TableFolder:
    """A folder of shards that belong together, while it is written and afterwards.

    Args:
        path: The folder.
        description: What `table.json` holds.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path = path
        self.config: dict[str, Any] = description["config"]
        self.num_rows: int | None = description["num_rows"]
        self.shard_rows: int = description["shard_rows"]
        self._description = description

    @classmethod
    def start(
        cls,
        path: str | Path,
        kind: str,
        config: Mapping[str, Any],
        *,
        num_rows: int | None,
        shard_rows: int,
    ) -> TableFolder:
        """Makes the folder of a table, or opens the one of the same call to go on with it.

        Args:
            path: A folder that is new, empty, or holds this table or a part of it.
            kind: What the table is, such as "patches".
            config: Every choice that its rows depend on; JSON types.
            num_rows: Rows of the whole table, at least 1; None if only the end will tell.
            shard_rows: Rows of every shard but the last, at least 1.

        Raises:
            ValueError: If the folder holds something else, or rows made by another configuration.
        """
        folder = Path(path)
        received = {"shard_rows": shard_rows, **json_types(dict(config))}
        if shard_rows < 1 or (num_rows is not None and num_rows < 1):
            raise ValueError(
                "A table must have at least 1 row, and 1 a shard. "
                f"Received: num_rows={num_rows}, shard_rows={shard_rows}"
            )
        if (folder / _DESCRIPTION).exists():
            table = cls(folder, _read_description(folder, kind))
            check_same(folder, {"shard_rows": table.shard_rows, **table.config}, received)
            return table
        _check_empty(folder)
        description = {
            "format": FORMAT,
            "kind": kind,
            "config": {key: value for key, value in received.items() if key != "shard_rows"},
            "shard_rows": shard_rows,
            "num_rows": num_rows,
            "versions": versions(),
        }
        # Of workers that start together, on machines where they have the same process id, one may
        # take away what the other is about to rename; both write the same.
        with contextlib.suppress(FileNotFoundError):
            write_json(folder / _DESCRIPTION, description)
        return cls(folder, _read_description(folder, kind))

    @classmethod
    def open(cls, path: str | Path, kind: str) -> TableFolder:
        """Opens a table whose rows are all there.

        Raises:
            ValueError: If there is no such table, or rows of it are missing.
        """
        table = cls(Path(path), _read_description(Path(path), kind))
        if table.num_rows is None:
            raise ValueError(
                "A table must be finished before it is opened; run the call that makes it again, "
                f"it goes on where it stopped. Received: {path} with {table.num_whole} shards"
            )
        missing = table.missing_shards()
        if missing:
            names = ", ".join(str(shard) for shard in missing[:8])
            raise ValueError(
                "A table must have all its shards; run the call that makes it again (with several "
                f"workers: those whose shards are missing). Received: {path} without "
                f"{len(missing)} of {table.num_shards}: {names}{', ...' if missing[8:] else ''}"
            )
        return table

    @property
    def num_shards(self) -> int:
        """Shards of the whole table, whose number of rows must be known."""
        return -(-self._known_rows() // self.shard_rows)

    @property
    def num_whole(self) -> int:
        """Shards that are there, counted from the first to the first gap."""
        count = 0
        while self.shard_path(count).is_dir():
            count += 1
        return count

    def shard_path(self, shard: int) -> Path:
        """Where a shard belongs."""
        return self.path / f"{shard:05d}"

    def missing_shards(self) -> list[int]:
        """Gives the numbers of the shards that are not there yet."""
        return [n for n in range(self.num_shards) if not self.shard_path(n).is_dir()]

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Gives the first row of a shard and the one after its last."""
        start = shard * self.shard_rows
        return start, min(start + self.shard_rows, self._known_rows())

    def write_shard(self, shard: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes a shard: all its columns, or nothing."""
        num_bytes = sum(values.nbytes for values in columns.values())
        kept = "the shards before it are kept, and the same call goes on after them"
        with write_atomically(
            self.shard_path(shard), num_bytes=num_bytes, reassurance=kept
        ) as partial:
            partial.mkdir()
            for name, values in columns.items():
                np.save(partial / f"{name}.npy", values, allow_pickle=False)

    def finish(self, num_rows: int) -> None:
        """Writes down how many rows the table has, where that was not known at the start."""
        if self.num_rows is None:
            self._description = {**self._description, "num_rows": num_rows}
            write_json(self.path / _DESCRIPTION, self._description)
            self.num_rows = num_rows

    def column(self, name: str) -> ShardedArray:
        """Gives a column of all rows, memory-mapped."""
        array = ShardedArray(self.shard_path(n) / f"{name}.npy" for n in range(self.num_shards))
        if len(array) != self._known_rows():
            raise ValueError(
                "The shards of a table must hold as many rows as its table.json says; make it anew "
                f"in another folder. Received: {len(array)} of {self.num_rows} in {self.path}"
            )
        return array

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from writing here; first removes what a killed one left half.

        Raises:
            ValueError: If another process is writing here.
        """
        with _lock(self.path):
            remove_partials(self.path)
            yield

    def _known_rows(self) -> int:
        if self.num_rows is None:
            raise ValueError(f"The table must be finished first. Received: {self.path}")
        return self.num_rows


def split_rows(
    batches: Iterable[Sequence[np.ndarray]], shard_rows: int
) -> Iterator[list[np.ndarray]]:
    """Lays batches of any length together into shards; holds no more than two shards and a batch.

    Args:
        batches: Equally long arrays of several columns, batch after batch.
        shard_rows: Rows of every shard but the last.

    Yields:
        The columns of a shard; none has no rows.
    """
    columns: list[np.ndarray] = []
    count = 0
    for batch in batches:
        position = 0
        while position < len(batch[0]):
            if not count:
                columns = [np.empty((shard_rows, *c.shape[1:]), c.dtype) for c in batch]
            taken = min(shard_rows - count, len(batch[0]) - position)
            for column, values in zip(columns, batch, strict=True):
                column[count : count + taken] = values[position : position + taken]
            position, count = position + taken, count + taken
            if count == shard_rows:
                yield columns
                count = 0
    if count:
        yield [column[:count] for column in columns]


def _read_description(folder: Path, kind: str) -> dict[str, Any]:
    try:
        stored = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        found = (stored["format"], stored["kind"])
        _ = stored["config"], stored["num_rows"], stored["shard_rows"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"A table must be a folder with a whole {_DESCRIPTION}; name the folder that was "
            f"written. Received: {folder}"
        ) from None
    if found != (FORMAT, kind):
        raise ValueError(
            f"The folder must hold a table of {kind} in format {FORMAT}; name another folder. "
            f"Received: {folder} with {found[1]} in format {found[0]}"
        )
    return stored


def check_same(folder: Path | str, stored: dict[str, Any], received: dict[str, Any]) -> None:
    """Refuses to go on with another configuration, and names what differs.

    Raises:
        ValueError: If they differ.
    """
    differences = [
        f"{key}={received.get(key)!r:.80} (there: {stored.get(key)!r:.80})"
        for key in sorted(stored.keys() | received.keys())
        if stored.get(key) != received.get(key)
    ]
    if differences:
        raise ValueError(
            f"A folder must go on with the configuration it was started with; name another folder. "
            f"Received: {', '.join(differences)} in {folder}"
        )


def _check_empty(folder: Path) -> None:
    """Refuses other people's files; hidden ones may be our own first traces."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"A table needs a folder; give another name. Received: {folder}, a file")
    others = [entry.name for entry in folder.glob("[!.]*")]
    if others:
        raise ValueError(
            "A table needs a folder that is new or empty, or its own. "
            f"Received: {folder}, which holds {sorted(others)[0]}"
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        lock = lock_folder(folder)
    except RunError as error:
        raise ValueError(
            "Only one process may write a table, unless it is one of several workers; wait for "
            f"the other, or name another folder. Received: {folder} ({error})"
        ) from error
    with lock:
        yield
