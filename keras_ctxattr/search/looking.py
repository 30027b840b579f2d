"""Looking at new and changed files: read, compared with what is known, described."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import Facts, load_entry, upright_size
from keras_ctxattr.data.manifest.scan import MAX_PIXELS
from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE
from keras_ctxattr.search.describing import ModuleDescriber, UndecodableError
from keras_ctxattr.search.planning import Task
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.search.store import IndexStore

_NUM_THREADS = 2  # one image is read while another is in the network
_NUM_AHEAD = 8

Row = tuple[np.ndarray, ...]
"""Code, scores and (perhaps) vector of one image, as they are stored."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A file that was looked at: an image with its row, one that is as it was, or neither.

    Attributes:
        task: What was to be done.
        facts: What is known of the file.
        image: The image; None if it cannot be used.
        row: Its row; None for an image that has one already.
        is_copied: Whether the row is that of equal bytes.
    """

    task: Task
    facts: Facts
    image: IndexedImage | None = None
    row: Row | None = None
    is_copied: bool = False


def look_at(
    store: IndexStore, describer: ModuleDescriber, tasks: Sequence[Task]
) -> Iterator[Outcome]:
    """Looks at files in a few threads, and keeps their order."""
    known = _Known(store)
    waiting: collections.deque[Future[Outcome]] = collections.deque()
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(_look, task, describer, known))
                if len(waiting) >= _NUM_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Known:
    """The images that were in the index before an update, by their bytes."""

    def __init__(self, store: IndexStore) -> None:
        _, self.rows = store.snapshot()
        self.images: dict[str, int] = {}
        self.named: dict[str, IndexedImage] = {}
        for image in store.all_images():
            self.images.setdefault(image.digest, image.image_id)
            self.named[image.name] = image

    def row(self, digest: str) -> Row | None:
        """Gives the row of equal bytes, if they are known."""
        image = self.images.get(digest)
        if image is None:
            return None
        place = np.searchsorted(self.rows.ids, [image])
        return tuple(self.rows.read(name, place)[0] for name in self.rows.columns[1:])


def _look(task: Task, describer: ModuleDescriber, known: _Known) -> Outcome:
    facts, encoded = load_entry(task.entry, max_pixels=MAX_PIXELS, cache_dir=default_cache_dir())
    before = known.named.get(task.name)
    if facts.skip:
        if before is not None and facts.skip == NOT_AN_IMAGE:
            facts = dataclasses.replace(facts, skip="unreadable: it is no longer an image")
        return Outcome(task=task, facts=facts)
    if before is not None and before.digest == facts.digest:
        return Outcome(task=task, facts=facts, image=before)
    row = known.row(facts.digest)
    is_copied = row is not None
    try:
        row = row or _describe(describer, encoded, len(known.rows.columns) == 4)
    except UndecodableError as error:
        return Outcome(task=task, facts=dataclasses.replace(facts, skip=str(error)))
    height, width = upright_size(encoded)
    image = IndexedImage(
        source=task.source,
        name=task.name,
        place=task.place,
        height=height,
        width=width,
        format=facts.format,
        digest=facts.digest,
    )
    return Outcome(task=task, facts=facts, image=image, row=row, is_copied=is_copied)


def _describe(describer: ModuleDescriber, encoded: bytes, keep_vectors: bool) -> Row:
    found = describer.describe(encoded)
    row = (found.code, found.scores.astype(np.float16), found.vector.astype(np.float16))
    return row if keep_vectors else row[:2]
