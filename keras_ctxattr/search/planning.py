"""What has to be done to bring an index up to date: compares collections with what is stored."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.sources import Entry, list_source
from keras_ctxattr.data.manifest.table import CollectionError
from keras_ctxattr.search.records import Place
from keras_ctxattr.search.store import IndexStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A file that must be looked at.

    Attributes:
        source: Number of its collection in the index.
        name: What it is called in the index.
        entry: Where its bytes are.
        place: What the index will remember of that.
    """

    source: int
    name: str
    entry: Entry
    place: Place


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do for one collection.

    Attributes:
        tasks: New and changed files, by name.
        gone: Names of the index whose file is no longer there.
        num_unchanged: Images that are left alone.
    """

    tasks: list[Task]
    gone: list[str]
    num_unchanged: int


def list_entries(source: str) -> list[Entry]:
    """Lists the files of a collection by key; a later one of equal keys is left out.

    Raises:
        CollectionError: If there is no such collection, or it is damaged or empty.
    """
    entries: dict[str, Entry] = {}
    for entry in list_source(source, default_cache_dir()):
        entries.setdefault(entry.key, entry)
    if not entries:
        raise CollectionError(
            "A source of photographs must hold at least one file; this one is empty. "
            f"Received: {source}"
        )
    return [entries[key] for key in sorted(entries)]


def locate_source(source: str) -> tuple[str, str]:
    """Gives where a collection is, absolute, and what its images' names begin with."""
    if source.startswith("tfds:"):
        return source, source.replace("/", "_")
    place = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111 - "../x" stays legible
    return place, Path(place).name or "root"


def plan_update(store: IndexStore, source: int, entries: list[Entry], *, reread: bool) -> Plan:
    """Compares the files of a collection with what the index knows of it.

    Args:
        store: The index.
        source: Number of the collection in it.
        entries: The files.
        reread: Whether unchanged files are looked at too.
    """
    label = store.sources()[source][1]
    places = {image.name: image.place for image in store.all_images(source)}
    skipped = {file.name: file.place for file in store.skipped(source)}
    tasks, seen, num_unchanged = [], set(), 0
    for entry, place in zip(entries, find_places(entries), strict=True):
        name = f"{label}/{entry.key}"
        seen.add(name)
        if not reread and place == (places.get(name) or skipped.get(name)):
            num_unchanged += name in places
        else:
            tasks.append(Task(source=source, name=name, entry=entry, place=place))
    missing = (name for name in (*places, *skipped) if name not in seen)
    closed = tuple(f"{label}/{prefix}" for prefix in _closed(entries))
    gone = [name for name in missing if not name.startswith(closed)]
    return Plan(tasks=tasks, gone=gone, num_unchanged=num_unchanged)


def find_places(entries: Iterable[Entry]) -> Iterator[Place]:
    """Gives the place of each file; a container is asked once."""
    times: dict[str, int] = {}
    for entry in entries:
        if entry.path not in times:
            try:
                times[entry.path] = os.stat(entry.path).st_mtime_ns  # noqa: PTH116 - a name need not be UTF-8
            except OSError:
                times[entry.path] = 0
        yield Place(
            path=entry.path,
            offset=entry.offset,
            length=entry.length,
            total=entry.total,
            changed=times[entry.path],
        )


def _closed(entries: Iterable[Entry]) -> Iterator[str]:
    """Gives the prefixes of what could not be listed: what is below is unknown, not gone."""
    for entry in entries:
        if entry.skip.startswith("unreadable"):
            is_root = os.path.isdir(entry.path) and not entry.key.endswith("/")  # noqa: PTH112
            yield "" if is_root else entry.key.rstrip("/") + "/"
