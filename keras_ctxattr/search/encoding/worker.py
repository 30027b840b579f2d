"""What a worker does with the files of a shard: describes each by itself, and writes the shard."""

from __future__ import annotations

import contextlib
import dataclasses

from keras_ctxattr.data.manifest.remote import is_url
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.jobs import Note, Seat
from keras_ctxattr.search.describing import ModuleDescriber, set_threads
from keras_ctxattr.search.encoding.plan import Unit
from keras_ctxattr.search.encoding.shard import Layout, Row, pack_shard
from keras_ctxattr.search.encoding.shelves import Shelf, open_shelf
from keras_ctxattr.search.looking import Seen, describe_file, map_ahead

_REMOTE_READERS = 8  # besides: requests wait for the network, not for a core
_AHEAD = 4  # images for each thread: results wait for those before them


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeJob:
    """Describes the files of a shard and writes it.

    Attributes:
        module: Folder of a module with attributes; every worker must see it.
        place: Folder or URL of the table, likewise.
        layout: What rows look like.
    """

    module: str
    place: str
    layout: Layout

    def load(self, seat: Seat) -> ShardWriter:
        """Loads the module."""
        set_threads(seat.num_threads)
        describer = ModuleDescriber(self.module)
        return ShardWriter(describer, open_shelf(self.place), self.layout, seat.num_parallel)


class ShardWriter:
    """Describes the files of a shard, each by itself, and writes it.

    Args:
        describer: Of the module.
        shelf: Where shards are put.
        layout: What rows look like.
        num_parallel: Images that are read and described at a time.
    """

    def __init__(
        self, describer: ModuleDescriber, shelf: Shelf, layout: Layout, num_parallel: int
    ) -> None:
        self.describer = describer
        self.shelf = shelf
        self.layout = layout
        self.num_parallel = num_parallel

    def __call__(self, unit: Unit, note: Note) -> None:
        """Writes the shard of these files.

        Args:
            unit: The files.
            note: Called with how many of them are done.
        """
        is_remote = any(is_url(entry.path) for entry in unit.entries)
        num_threads = self.num_parallel + (_REMOTE_READERS if is_remote else 0)
        looked = map_ahead(
            self._look, unit.entries, num_threads=num_threads, num_ahead=_AHEAD * num_threads
        )
        rows, skipped = [], []
        with contextlib.closing(looked):
            for done, seen in enumerate(looked, 1):
                image_id = unit.start + done - 1
                if seen.row is None:
                    skipped.append((image_id, seen.facts.skip))
                else:
                    rows.append(_row(image_id, seen))
                note(done)
        self.shelf.write(unit.name, pack_shard(unit, rows, skipped, self.layout))

    def _look(self, entry: Entry) -> Seen:
        return describe_file(entry, self.describer, keep_vectors=self.layout.keep_vectors)


def _row(image_id: int, seen: Seen) -> Row:
    code, _, *vector = seen.row or ()
    return Row(
        image_id=image_id,
        code=code,
        vector=vector[0] if vector else None,
        digest=seen.facts.digest,
    )
