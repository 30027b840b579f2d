"""Codes and features of a whole collection: workers write what is missing, all is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from keras_ctxattr.jobs import Pool, Workers, open_pool
from keras_ctxattr.search.describing import read_describing
from keras_ctxattr.search.encoding.plan import Plan, list_collection
from keras_ctxattr.search.encoding.shard import (
    Contents,
    Layout,
    ShardError,
    check_place,
    check_shard,
)
from keras_ctxattr.search.encoding.shelves import Shelf, open_shelf
from keras_ctxattr.search.encoding.worker import EncodeJob
from keras_ctxattr.search.store import digest_folder

Progress = Callable[[int, int | None], None]

_MAX_NAMED = 5  # skipped files, missing shards


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """What a table of codes holds, or this share of it.

    Attributes:
        images: Images that were described.
        skipped: Images that cannot be used.
        others: Files that are no images.
        shards: Shards of the table.
        missing: Shards that others of several shares have not written yet; then the counts above
            are 0, and nothing was checked.
        bytes: Of all shards.
        lost: Workers that were lost and replaced.
        first_skipped: (key, reason) of the first images that cannot be used.
    """

    images: int = 0
    skipped: int = 0
    others: int = 0
    shards: int = 0
    missing: int = 0
    bytes: int = 0
    lost: int = 0
    first_skipped: tuple[tuple[str, str], ...] = ()


def encode_photographs(
    sources: Sequence[str],
    place: str | Path,
    module: str | Path,
    *,
    workers: Workers | None = None,
    keep_vectors: bool = True,
    shard_images: int = 1024,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Encoded:
    """Describes a whole collection, each of its files exactly once, shard by shard.

    Killed at any moment, the same call goes on with the shards that are missing. At the end all
    are read and every file of the collection is found in exactly one of them. The bytes do not
    depend on the engine, or on the number of workers and machines; on processors of another kind
    the last bits of vectors may differ.

    Several machines that see the same photographs, module and place divide the work: each makes the
    same call with its own `share`, and takes every n-th shard; the last one to be done checks.

    Args:
        sources: Folders, archives, TFRecord files, images, `tfds:NAME[:SPLIT]`, and URLs.
        place: Folder or URL of the table: new, empty, or holding this table or a part of it.
        module: A module with attributes.
        workers: Who does it; one process of this machine if None.
        keep_vectors: Whether features are kept beside the codes, two bytes a number.
        shard_images: Files of every shard but the last; what a lost worker loses at most.
        share: (i, n): which part of the shards this call does, of how many.
        progress: Called with (files done, files of this share), and while the collection is listed
            with (files, None).

    Returns:
        What the table holds.

    Raises:
        CollectionError: If a source does not exist, is damaged, empty or cannot be reached.
        ShardError: If a shard is damaged or not in its place; the message says what to do.
        JobError: If a shard ends every worker that tries it.
        DiskFullError: If there is no room; whole shards are kept.
        MissingPackageError: If Ray is asked for and not installed.
        ValueError: If an argument is impossible, the module has no attributes, or the place holds
            something else.
    """
    _check_arguments(shard_images, share)
    about = read_describing(module)
    plan = Plan(list_collection(sources, progress), shard_images)
    layout = Layout(
        num_attributes=int(about["attributes"]["num_attributes"]),
        num_features=int(about["num_features"]),
        keep_vectors=keep_vectors,
    )
    settings = workers or Workers()
    shelf = open_shelf(str(place))
    shelf.start(_configure(plan, module, layout, settings), len(plan.entries), shard_images)
    job = EncodeJob(module=str(Path(module).absolute()), place=shelf.place, layout=layout)
    lost = 0
    with shelf.lock() if share[1] == 1 else contextlib.nullcontext():
        missing = _find_missing(shelf, plan)
        todo = [shard for shard in missing if shard % share[1] == share[0]]
        if todo:
            with open_pool(job, _fit(settings, len(todo))) as pool:
                _Work(pool, plan, share, progress).do(todo)
                lost = pool.num_lost
    if len(missing) > len(todo) and (left := _find_missing(shelf, plan)):
        return Encoded(shards=len(plan), missing=len(left), lost=lost)
    encoded = _check(shelf, plan, layout)
    return dataclasses.replace(encoded, lost=lost)


class _Work:
    """Hands shards to workers, and tells how far all of them are."""

    def __init__(
        self, pool: Pool, plan: Plan, share: tuple[int, int], progress: Progress | None
    ) -> None:
        self.pool = pool
        self.plan = plan
        self.progress = progress
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}
        own = range(share[0], len(plan), share[1])
        self._total = plan.count(own)
        self._before = self._total

    def do(self, shards: Sequence[int]) -> None:
        """Has these shards written, in no particular order."""
        self._before -= self.plan.count(shards)
        with ThreadPoolExecutor(self.pool.num_workers) as threads:
            futures = [threads.submit(self._do, shard) for shard in shards]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                self.pool.close()  # whoever waits for a worker is told so
                raise

    def _do(self, shard: int) -> None:
        unit = self.plan.unit(shard)

        def note(done: int) -> None:
            with self._lock:
                self._done[shard] = done
                if self.progress is not None:
                    self.progress(self._before + sum(self._done.values()), self._total)

        self.pool.call(unit, f"shard {unit.name}", note)
        note(len(unit.entries))
        with self._lock:
            self._before += self._done.pop(shard)


def _check_arguments(shard_images: int, share: tuple[int, int]) -> None:
    if shard_images < 1:
        raise ValueError(f"`shard_images` must be at least 1. Received: {shard_images}")
    if not 0 <= share[0] < share[1]:
        raise ValueError(
            "`share` must be (i, n) with i of 0...n-1, each machine its own. "
            f"Received: {share[0]}/{share[1]}"
        )


def _configure(plan: Plan, module: str | Path, layout: Layout, workers: Workers) -> dict[str, Any]:
    """Gives every choice that the bytes of a table depend on."""
    return {
        "module": digest_folder(Path(module)),
        "collection": plan.digest(),
        "num_threads": workers.num_threads,
        **dataclasses.asdict(layout),
    }


def _fit(workers: Workers, num_shards: int) -> Workers:
    """Leaves out workers that would have nothing to do."""
    return dataclasses.replace(workers, num_workers=min(workers.num_workers, num_shards))


def _find_missing(shelf: Shelf, plan: Plan) -> list[int]:
    """Gives the shards that are not there; those that are must be in their place.

    Raises:
        ShardError: If one is not, or there is something that does not belong to the table.
    """
    names = shelf.names()
    own = plan.names()
    foreign = sorted(names - own.keys())
    if foreign:
        raise ShardError(
            "A table must hold its shards and nothing else, or images are there twice; move away "
            f"or delete what does not belong. Received: {shelf.path(foreign[0])}, beside "
            f"{len(plan)} shards"
        )
    for name in sorted(names):
        check_place(plan.unit(own[name]), shelf.path(name), functools.partial(shelf.read, name))
    return [shard for name, shard in own.items() if name not in names]


def _check(shelf: Shelf, plan: Plan, layout: Layout) -> Encoded:
    """Reads all shards, and writes down what they hold."""
    missing = sorted(plan.names().keys() - shelf.names())
    if missing:
        more = ", ..." if missing[_MAX_NAMED:] else ""
        raise ShardError(
            "Every shard must be there; give the same command again, which writes those alone. "
            f"Received: {shelf.place} without {len(missing)} of {len(plan)}: "
            f"{', '.join(missing[:_MAX_NAMED])}{more}"
        )
    found = [_check_one(shelf, plan, shard, layout) for shard in range(len(plan))]
    encoded = Encoded(
        images=sum(one.num_images for one in found),
        skipped=sum(len(one.skipped) for one in found),
        others=sum(one.num_others for one in found),
        shards=len(plan),
        bytes=sum(one.num_bytes for one in found),
    )
    shelf.finish({**_counts(encoded), "files": len(plan.entries)})
    first = [skip for one in found for skip in one.skipped][:_MAX_NAMED]
    return dataclasses.replace(encoded, first_skipped=tuple(first))


def _check_one(shelf: Shelf, plan: Plan, shard: int, layout: Layout) -> Contents:
    unit = plan.unit(shard)
    return check_shard(
        unit, shelf.path(unit.name), functools.partial(shelf.read, unit.name), layout
    )


def _counts(encoded: Encoded) -> dict[str, int]:
    names = ("images", "skipped", "others", "shards", "bytes")
    return {name: getattr(encoded, name) for name in names}
