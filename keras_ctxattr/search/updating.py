"""Bringing an index up to date with collections of photographs."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE
from keras_ctxattr.jobs import Workers
from keras_ctxattr.search.database import ImageIndexError
from keras_ctxattr.search.describing import ModuleDescriber, read_describing
from keras_ctxattr.search.looking import Outcome, Row, look_at
from keras_ctxattr.search.planning import Plan, Task, list_entries, locate_source, plan_update
from keras_ctxattr.search.records import SkippedImage
from keras_ctxattr.search.segments import Rows
from keras_ctxattr.search.spreading import look_with
from keras_ctxattr.search.store import MODULE, IndexStore, digest_folder
from keras_ctxattr.search.writer import IndexWriter, open_writer

Progress = Callable[[int, int | None], None]
Look = Callable[[IndexStore, Sequence[Task]], Generator[Outcome, None, None]]

_COMMIT_SECONDS = 10.0
_COMMIT_IMAGES = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """What an update did.

    Attributes:
        described: Images that went through the network.
        copied: Images whose bytes were known, under this name or another.
        unchanged: Images that were left alone.
        removed: Images whose file is gone.
        skipped: Files of these collections that are images and cannot be used.
    """

    described: int
    copied: int
    unchanged: int
    removed: int
    skipped: int


def index_photographs(
    sources: Sequence[str],
    folder: str | Path,
    module: str | Path,
    *,
    keep_vectors: bool = True,
    reread: bool = False,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Changes:
    """Makes an index of photographs, or brings one up to date with them.

    New and changed files are described, files that are gone are removed, others are left alone: a
    file is unchanged if its place, its size and the time of its last change are. What was described
    is committed every ten seconds; killed at any moment, the same call goes on from there.

    Args:
        sources: Folders, archives, TFRecord files, images, `tfds:NAME[:SPLIT]`.
        folder: The index: new, empty, or one of this module.
        module: A module with attributes; it is copied into the index.
        keep_vectors: Whether features are kept beside the codes, two bytes a number: results are
            then ranked by them.
        reread: Whether unchanged files are read too, and their bytes compared.
        workers: Who describes; this process if None. The index is the same, whoever does, and
            written by this process alone.
        progress: Called with (images done, all that are new or changed).

    Raises:
        CollectionError: If a source does not exist, is damaged or empty.
        ImageIndexError: If the folder holds something else, the index is of another module, or
            another process is writing.
        JobError: If a few files end every worker that tries them.
        MissingPackageError: If Ray is asked for and not installed.
        ValueError: If the module has no attributes.
    """
    listed = [(source, list_entries(source)) for source in sources]  # refuses before it writes
    look = _choose_look(module, workers)
    if (Path(folder) / MODULE).is_dir():
        store = IndexStore(folder)
        _check_same(store, Path(module), keep_vectors)
    else:
        store = IndexStore.create(folder, module, keep_vectors=keep_vectors)
    with open_writer(store) as writer:
        plans = [_plan(writer, *one, reread=reread) for one in listed]
        return _carry_out(writer, look, plans, removes=True, progress=progress)


def add_photographs(
    index: str | Path, sources: Sequence[str], *, progress: Progress | None = None
) -> Changes:
    """Adds photographs to an index; nothing is removed. See `index_photographs`."""
    store = IndexStore(index)
    listed = [(source, list_entries(source)) for source in sources]
    look = _choose_look(store.folder / MODULE, None)
    with open_writer(store) as writer:
        plans = [_plan(writer, *one, reread=False) for one in listed]
        return _carry_out(writer, look, plans, removes=False, progress=progress)


def remove_photographs(index: str | Path, patterns: Sequence[str]) -> list[str]:
    """Removes images from an index; their files stay.

    Args:
        index: The index.
        patterns: Names as the index has them, folders of them, or patterns with `*` and `?`.

    Returns:
        The names that were removed.

    Raises:
        ImageIndexError: If a pattern fits no image; then nothing is removed.
    """
    store = IndexStore(index)
    with open_writer(store) as writer:
        names = [image.name for image in store.all_images()]
        chosen = dict.fromkeys(name for given in patterns for name in _match(given, names))
        writer.remove(chosen)
        writer.tidy()
    return list(chosen)


def _match(pattern: str, names: Sequence[str]) -> list[str]:
    below = pattern.rstrip("/") + "/"
    found = [
        name
        for name in names
        if name == pattern or name.startswith(below) or fnmatch.fnmatchcase(name, pattern)
    ]
    if not found:
        raise ImageIndexError(
            "What is to be removed must be named as `ctxattr search` shows it, or fit such names "
            f"(`holidays/*`). Received: {pattern!r}, which fits none of {len(names)} images"
        )
    return found


def _check_same(store: IndexStore, module: Path, keep_vectors: bool) -> None:
    if store.about["module"] != digest_folder(module):
        raise ImageIndexError(
            "An index has the codes of one module; give it a new folder, or leave the module as it "
            f"was. Received: {store.folder}, whose module is not {module}"
        )
    if bool(store.about["keep_vectors"]) != keep_vectors:
        has = "keeps" if store.about["keep_vectors"] else "does not keep"
        raise ImageIndexError(
            "An index keeps the vectors of all its images or of none; give it a new folder. "
            f"Received: {store.folder}, which {has} them"
        )


def _plan(writer: IndexWriter, source: str, entries: list, *, reread: bool) -> Plan:
    number = writer.add_source(*locate_source(source))
    return plan_update(writer.store, number, entries, reread=reread)


def _choose_look(module: str | Path, workers: Workers | None) -> Look:
    """Gives what looks at files; refuses what cannot describe them before anything is written."""
    if workers is not None:
        read_describing(module)
        return functools.partial(look_with, workers)
    return functools.partial(look_at, ModuleDescriber(module))


def _carry_out(
    writer: IndexWriter,
    look: Look,
    plans: Sequence[Plan],
    *,
    removes: bool,
    progress: Progress | None,
) -> Changes:
    tasks = [task for plan in plans for task in plan.tasks]
    batch = _Batch(writer)
    outcomes = look(writer.store, tasks)
    try:
        for done, outcome in enumerate(outcomes, 1):
            batch.take(outcome)
            if progress is not None:
                progress(done, len(tasks))
    finally:  # also where it is interrupted: what was described is kept
        batch.commit()
        outcomes.close()
    num_removed = 0
    if removes:
        num_removed = writer.remove(name for plan in plans for name in plan.gone)
    writer.tidy()
    return Changes(
        described=batch.num_described,
        copied=batch.num_copied,
        unchanged=sum(plan.num_unchanged for plan in plans),
        removed=num_removed,
        skipped=sum(len(writer.store.skipped(number)) for number in writer.store.sources()),
    )


class _Batch:
    """What was looked at since the last commit."""

    def __init__(self, writer: IndexWriter) -> None:
        self.writer = writer
        self.num_described = self.num_copied = 0
        self._outcomes: list[Outcome] = []
        self._committed = time.monotonic()

    def take(self, outcome: Outcome) -> None:
        """Adds one, and commits where it is time."""
        self._outcomes.append(outcome)
        is_late = time.monotonic() - self._committed >= _COMMIT_SECONDS
        if is_late or len(self._outcomes) >= _COMMIT_IMAGES:
            self.commit()

    def commit(self) -> None:
        """Makes what was taken a part of the index."""
        outcomes, self._outcomes = self._outcomes, []
        new = [one for one in outcomes if one.row is not None]
        same = [one for one in outcomes if one.image is not None and one.row is None]
        unused = [one for one in outcomes if one.facts.skip and one.facts.skip != NOT_AN_IMAGE]
        if new or unused:
            self.writer.commit(
                [one.image for one in new if one.image is not None],
                _stack([one.row for one in new if one.row is not None]),
                skipped=[_skipped(one) for one in unused],
            )
            self.writer.tidy()
        if same:
            self.writer.touch(
                (one.image.image_id, one.task.place) for one in same if one.image is not None
            )
        num_copied = sum(one.is_copied for one in new)
        self.num_copied += num_copied + len(same)
        self.num_described += len(new) - num_copied
        self._committed = time.monotonic()


def _skipped(outcome: Outcome) -> SkippedImage:
    task = outcome.task
    return SkippedImage(
        source=task.source, name=task.name, place=task.place, reason=outcome.facts.skip
    )


def _stack(rows: Sequence[Row]) -> Rows | None:
    if not rows:
        return None
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return Rows(
        ids=np.arange(len(rows)),
        codes=columns[0],
        scores=columns[1],
        vectors=columns[2] if len(columns) == 3 else None,
    )
