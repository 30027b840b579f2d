"""Which images of an index have the nearest codes: all compared, or by inverted lists beside them.

    index/lists/G/     inverted lists of change G, as `invert_codes` writes them

Lists are of the images that there were; an image's code never changes, and no id is given twice. So
lists stay of use: what was removed since is left out, what was added is compared with the query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_ctxattr.runs.writing import remove
from keras_ctxattr.search.choosing import choose_kind
from keras_ctxattr.search.index import CodeIndex, HammingIndex
from keras_ctxattr.search.inverting import Progress, invert_codes
from keras_ctxattr.search.list_folder import open_inverted
from keras_ctxattr.search.sharded import ShardedHammingIndex
from keras_ctxattr.search.store import IndexStore
from keras_ctxattr.search.writer import open_writer

KINDS = ("auto", "exact", "inverted")

_LISTS = "lists"


class NearbyImages:
    """Finds the images of the nearest codes, in one snapshot of an index.

    Args:
        store: The index.
        ids: Of its images, int64 `[n]`, ascending.
        codes: Theirs, uint8 `[n, num_attributes / 8]`.
        kind: `"exact"`; `"inverted"`, by the lists that `write_lists` wrote; or `"auto"`: exact up
            to ten million images, beyond that inverted if there are lists.

    Attributes:
        about: How images are found, and how much of the nearest is expected to be found.

    Raises:
        ValueError: If the kind is unknown, or lists are wanted and there are none.
    """

    def __init__(self, store: IndexStore, ids: np.ndarray, codes: np.ndarray, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: {kind!r}")
        self._ids = ids
        wanted = choose_kind(len(ids)) if kind == "auto" else kind
        listed = _open_lists(store.folder) if wanted == "inverted" else None
        if listed is None and kind == "inverted":
            raise ValueError(
                "An index must have inverted lists to be searched by them; `ctxattr prepare` "
                f"makes them. Received: {store.folder}"
            )
        if listed is None:
            self._nearest: CodeIndex = HammingIndex(codes, ids)
            self._spare = 0
            self.about = self._nearest.about
            if wanted == "inverted":
                self.about += "; `ctxattr prepare` makes search quicker"
        else:
            self._nearest, self._spare = _complete(listed, ids, codes)
            self.about = self._nearest.about

    def find(self, code: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives (rows int64, distances int32) of the nearest codes, at most `count`, in order."""
        wanted = min(count, len(self._ids))
        asked = min(count + min(count, self._spare), len(self._nearest))
        while True:
            distances, found = (part[0] for part in self._nearest.search(code, max(1, asked)))
            places = np.minimum(np.searchsorted(self._ids, found), max(0, len(self._ids) - 1))
            kept = np.flatnonzero(self._ids[places] == found) if len(self._ids) else found[:0]
            if len(kept) >= wanted or asked == len(self._nearest) or found[-1] < 0:
                return places[kept[:count]], distances[kept[:count]]
            asked = min(2 * asked, len(self._nearest))  # many were removed


def write_lists(
    store: IndexStore,
    generation: int,
    ids: np.ndarray,
    codes: np.ndarray,
    progress: Progress | None = None,
) -> None:
    """Writes the inverted lists of a snapshot, and removes those of earlier ones.

    Killed at any moment, the same call goes on, unless the index changed meanwhile.

    Args:
        store: The index, which must not change meanwhile.
        generation: Number of the last change.
        ids: Of its images, int64 `[n]`, at least one.
        codes: Theirs, uint8 `[n, num_attributes / 8]`.
        progress: Called with (images done, all of them).

    Raises:
        ImageIndexError: If another process is changing the index.
        ValueError: If there are no images.
        DiskFullError: No space left.
    """
    root = store.folder / _LISTS
    with open_writer(store):
        target = root / str(generation)
        invert_codes(codes, ids, folder=target, progress=progress)
        for other in root.iterdir():
            if other != target:
                remove(other)


def _open_lists(folder: Path) -> CodeIndex | None:
    """Gives the lists of the last change that has some, or None."""
    root = folder / _LISTS
    if not root.is_dir():
        return None
    numbers = sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal())
    if not numbers:
        return None
    try:
        return open_inverted(root / str(numbers[-1]))
    except ValueError:
        if (root / str(numbers[-1])).is_dir():
            raise
    return _open_lists(folder)  # newer ones have taken its place meanwhile


def _complete(listed: CodeIndex, ids: np.ndarray, codes: np.ndarray) -> tuple[CodeIndex, int]:
    """Adds images that came after the lists, and counts those that were removed since."""
    _, last = listed.id_range()
    start = int(np.searchsorted(ids, last, side="right"))
    spare = max(0, len(listed) - start)  # another process may have written newer lists
    if start == len(ids):
        return listed, spare
    added = HammingIndex(codes[start:], ids[start:])
    return ShardedHammingIndex([listed, added]), spare
