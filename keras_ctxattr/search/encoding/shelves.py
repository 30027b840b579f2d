"""Where shards are put: a folder of this machine, or a URL."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from keras_ctxattr.data.manifest.remote import is_url, open_file_system
from keras_ctxattr.data.shards import TableFolder
from keras_ctxattr.data.shards.folder import FORMAT, check_same
from keras_ctxattr.runs import write_atomically, write_json
from keras_ctxattr.runs.identity import versions
from keras_ctxattr.runs.writing import json_types
from keras_ctxattr.search.encoding.shard import ABOUT

KIND = "codes"
TABLE = "table.json"

_KEPT = "the shards before it are kept, and the same command goes on after them"


class Shelf(Protocol):
    """A place for shards, whose names are five digits."""

    place: str

    def start(self, config: Mapping[str, Any], num_files: int, shard_images: int) -> None:
        """Begins a table, or goes on with one of the same configuration."""
        ...

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other commands out where it can."""
        ...

    def names(self) -> set[str]:
        """Gives the names of the shards that are there."""
        ...

    def path(self, name: str) -> str:
        """Gives what errors call a shard."""
        ...

    def read(self, name: str, file: str) -> bytes:
        """Gives a file of a shard."""
        ...

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Writes a shard: it is there whole, or not at all."""
        ...

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Writes down what the whole table holds."""
        ...


def open_shelf(place: str) -> Shelf:
    """Gives the shelf of a folder or URL; nothing is written yet."""
    return RemoteShelf(place) if is_url(place) else LocalShelf(place)


class LocalShelf:
    """A folder of this machine, or one that several machines see.

    Args:
        place: The folder.
    """

    def __init__(self, place: str | Path) -> None:
        self.folder = Path(os.path.abspath(os.path.expanduser(place)))  # noqa: PTH100, PTH111
        self.place = str(self.folder)

    def start(self, config: Mapping[str, Any], num_files: int, shard_images: int) -> None:
        """Begins a table, or goes on with one of the same configuration.

        Raises:
            ValueError: If the folder holds something else.
        """
        TableFolder.start(self.folder, KIND, config, num_rows=num_files, shard_rows=shard_images)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other commands out; removes what a killed one left half.

        Raises:
            ValueError: If another command is writing here.
        """
        about = json.loads((self.folder / TABLE).read_text(encoding="utf-8"))
        with TableFolder(self.folder, about).lock():
            yield

    def names(self) -> set[str]:
        """Gives the names of the shards that are there, and of whatever else is."""
        return {entry.name for entry in self.folder.glob("[!.]*") if entry.name != TABLE}

    def path(self, name: str) -> str:
        """Gives where a shard is."""
        return str(self.folder / name)

    def read(self, name: str, file: str) -> bytes:
        """Gives a file of a shard."""
        return (self.folder / name / file).read_bytes()

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Writes a shard in one step; one that is there already stays.

        Raises:
            DiskFullError: If there is no room.
        """
        target = self.folder / name
        num_bytes = sum(map(len, files.values()))
        try:
            with write_atomically(
                target, num_bytes=num_bytes, reassurance=_KEPT, replace=False
            ) as partial:
                partial.mkdir()
                for file, content in files.items():
                    (partial / file).write_bytes(content)
        except FileExistsError:
            # A worker that was taken for lost has written it after all; both have the same bytes.
            if not (target / ABOUT).is_file():
                raise

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Writes down what the whole table holds."""
        about = json.loads((self.folder / TABLE).read_text(encoding="utf-8"))
        if about.get("counts") != counts:
            write_json(self.folder / TABLE, {**about, "counts": dict(counts)})


class RemoteShelf:
    """A URL, through fsspec: object storage that may have no folders, locks or atomic renames.

    There a shard counts from the moment its `shard.json` is there. It is written last, under
    another name first: a store of objects shows an object whole or not at all, and on HDFS or a
    disk the rename does that. Two that write the same shard write the same bytes. There is no lock:
    the same command given twice at a time does the work twice, and ends right.

    Tried with `memory://` and `file://`; not with a cloud.

    Args:
        place: The URL of a folder.

    Raises:
        CollectionError: If a package for it is missing.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._system, self._root = open_file_system(place)

    def start(self, config: Mapping[str, Any], num_files: int, shard_images: int) -> None:
        """Begins a table, or goes on with one of the same configuration.

        Raises:
            ValueError: If there is something else.
            OSError: If it cannot be written.
        """
        received = {"shard_rows": shard_images, **json_types(dict(config))}
        with _told(self.place):
            there = self._list("")
        if TABLE in there:
            about = self._about()
            check_same(self.place, {"shard_rows": about["shard_rows"], **about["config"]}, received)
            return
        if there:
            raise ValueError(
                "A table needs a place that is new or empty, or its own. Received: "
                f"{self.place}, which holds {sorted(there)[0]}"
            )
        self._put(
            TABLE,
            _to_json(
                {
                    "format": FORMAT,
                    "kind": KIND,
                    "config": json_types(dict(config)),
                    "shard_rows": shard_images,
                    "num_rows": num_files,
                    "versions": versions(),
                }
            ),
        )

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Does nothing: object storage has no locks."""
        return contextlib.nullcontext()

    def names(self) -> set[str]:
        """Gives the names of the shards whose `shard.json` is there."""
        with _told(self.place):
            self._system.invalidate_cache()
            found = self._system.find(self._root)
        return {path.split("/")[-2] for path in found if path.endswith(f"/{ABOUT}")}

    def path(self, name: str) -> str:
        """Gives where a shard is."""
        return f"{self.place}/{name}"

    def read(self, name: str, file: str) -> bytes:
        """Gives a file of a shard."""
        with _told(self.place):
            return self._system.cat_file(f"{self._root}/{name}/{file}")

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Writes a shard, the file that makes it count last.

        Raises:
            OSError: If it cannot be written.
        """
        for file, content in files.items():
            self._put(f"{name}/{file}", content)

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Writes down what the whole table holds."""
        about = self._about()
        if about.get("counts") != counts:
            self._put(TABLE, _to_json({**about, "counts": dict(counts)}))

    def _about(self) -> dict[str, Any]:
        try:
            about = json.loads(self._system.cat_file(f"{self._root}/{TABLE}"))
            _ = about["config"], about["shard_rows"]
            if (about["format"], about["kind"]) != (FORMAT, KIND):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"A table must have a whole {TABLE}, of {KIND} in format {FORMAT}; name another "
                f"place. Received: {self.place}"
            ) from None
        return about

    def _list(self, name: str) -> set[str]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(f"{self._root}/{name}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return set()
        return {path.rstrip("/").split("/")[-1] for path in found}

    def _put(self, name: str, content: bytes) -> None:
        target = f"{self._root}/{name}"
        folder, _, file = target.rpartition("/")
        with _told(self.place):
            self._system.makedirs(folder, exist_ok=True)
            if not file.endswith(".json"):
                self._system.pipe_file(target, content)
                return
            beside = f"{folder}/.{file}.{uuid.uuid4().hex}"
            self._system.pipe_file(beside, content)
            self._system.mv(beside, target)


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    """Tells in one line what a file system says, whose errors are of many kinds."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            "A URL must be within reach, and a place that may be written and has room; shards that "
            f"are there are kept. Received: {place}: {reason[:200]}"
        ) from error


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
