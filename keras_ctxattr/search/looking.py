"""Looking at new and changed files: read, compared with what is known, described.

`describe_file` is the one function that describes an image file, whoever calls it: the threads
of this process, other processes, actors on other machines.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import Facts, load_entry, upright_size
from keras_ctxattr.data.manifest.scan import MAX_PIXELS
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE
from keras_ctxattr.search.describing import ModuleDescriber, UndecodableError
from keras_ctxattr.search.planning import Task
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.search.store import IndexStore

_NUM_THREADS = 2  # one image is read while another is in the network
_NUM_AHEAD = 8

Given = TypeVar("Given")
Result = TypeVar("Result")

Row = tuple[np.ndarray, ...]
"""Code, scores and (perhaps) vector of one image, as they are stored."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What came of a file: a row, or why there is none.

    Attributes:
        facts: What is known of the file; `skip` says why it cannot be used.
        row: Code, scores and (perhaps) vector; None if it was skipped, or need not be described.
        size: (height, width) of the upright image in pixels; (0, 0) if it was skipped.
    """

    facts: Facts
    row: Row | None = None
    size: tuple[int, int] = (0, 0)


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


def describe_file(
    entry: Entry,
    describer: ModuleDescriber,
    *,
    keep_vectors: bool,
    is_known: Callable[[str], bool] = lambda digest: False,
) -> Seen:
    """Reads, checks and describes one file; what is wrong becomes the reason to skip it.

    Args:
        entry: Where its bytes are.
        describer: Of the module.
        keep_vectors: Whether the row has the vector.
        is_known: Tells from the digest of the bytes whether they need not be described.

    Raises:
        StoreError: If the machine cannot read a file that was listed.
    """
    facts, encoded = load_entry(
        entry, max_pixels=MAX_PIXELS, cache_dir=default_cache_dir(), insist=True
    )
    if facts.skip:
        return Seen(facts=facts)
    row = None
    if not is_known(facts.digest):
        try:
            row = _describe(describer, encoded, keep_vectors)
        except UndecodableError as error:
            return Seen(facts=dataclasses.replace(facts, skip=str(error)))
    return Seen(facts=facts, row=row, size=upright_size(encoded))


def map_ahead(
    function: Callable[[Given], Result],
    given: Iterable[Given],
    *,
    num_threads: int = _NUM_THREADS,
    num_ahead: int = _NUM_AHEAD,
) -> Generator[Result, None, None]:
    """Gives the results of a function in order, computed in a few threads, some ahead."""
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for one in given:
                waiting.append(pool.submit(function, one))
                if len(waiting) >= num_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def look_at(
    describer: ModuleDescriber, store: IndexStore, tasks: Sequence[Task]
) -> Generator[Outcome, None, None]:
    """Looks at files in a few threads, and keeps their order."""
    known = Known(store)

    def look(task: Task) -> Outcome:
        seen = describe_file(
            task.entry, describer, keep_vectors=known.has_vectors, is_known=known.holds
        )
        return known.compare(task, seen)

    yield from map_ahead(look, tasks)


class Known:
    """The images that were in an index before an update, by their bytes and by their names.

    Args:
        store: The index.

    Attributes:
        has_vectors: Whether it keeps vectors.
        images: An image of each digest.
    """

    def __init__(self, store: IndexStore) -> None:
        _, self._rows = store.snapshot()
        self.has_vectors = bool(store.about["keep_vectors"])
        self.images: dict[str, int] = {}
        self._named: dict[str, IndexedImage] = {}
        for image in store.all_images():
            self.images.setdefault(image.digest, image.image_id)
            self._named[image.name] = image

    def holds(self, digest: str) -> bool:
        """Tells whether there is a row of these bytes."""
        return digest in self.images

    def compare(self, task: Task, seen: Seen) -> Outcome:
        """Says what a file that was seen is to the index; known bytes get the row they had."""
        before, facts = self._named.get(task.name), seen.facts
        if facts.skip:
            if before is not None and facts.skip == NOT_AN_IMAGE:
                facts = dataclasses.replace(facts, skip="unreadable: it is no longer an image")
            return Outcome(task=task, facts=facts)
        if before is not None and before.digest == facts.digest:
            return Outcome(task=task, facts=facts, image=before)
        image = IndexedImage(
            source=task.source,
            name=task.name,
            place=task.place,
            height=seen.size[0],
            width=seen.size[1],
            format=facts.format,
            digest=facts.digest,
        )
        is_copied = seen.row is None
        row = self._row(facts.digest) if is_copied else seen.row
        return Outcome(task=task, facts=facts, image=image, row=row, is_copied=is_copied)

    def _row(self, digest: str) -> Row:
        place = np.searchsorted(self._rows.ids, [self.images[digest]])
        return tuple(self._rows.read(name, place)[0] for name in self._rows.columns[1:])


def _describe(describer: ModuleDescriber, encoded: bytes, keep_vectors: bool) -> Row:
    found = describer.describe(encoded)
    row = (found.code, found.scores.astype(np.float16), found.vector.astype(np.float16))
    return row if keep_vectors else row[:2]
