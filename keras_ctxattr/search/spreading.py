"""Describing the files of an index in other processes, by the function that describes them here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence

import numpy as np

from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.jobs import Note, Pool, Seat, Workers, open_pool
from keras_ctxattr.search.describing import ModuleDescriber, count_threads, set_threads
from keras_ctxattr.search.looking import Known, Outcome, Seen, describe_file, map_ahead
from keras_ctxattr.search.planning import Task
from keras_ctxattr.search.store import MODULE, IndexStore

_UNIT_FILES = 32
_UNITS_AHEAD = 4  # for each worker: results wait for those before them


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DescribeJob:
    """Describes lists of files.

    Attributes:
        module: Folder of the module, as every worker sees it.
        keep_vectors: Whether rows have vectors.
        known: Bytes `[n]`, ascending: digests of contents that need not be described.
    """

    module: str
    keep_vectors: bool
    known: np.ndarray

    def load(self, seat: Seat) -> Callable[[Sequence[Entry], Note], list[Seen]]:
        """Loads the module; see `keras_ctxattr.jobs.Job`."""
        set_threads(seat.num_threads)
        describer = ModuleDescriber(self.module)

        def see(entry: Entry) -> Seen:
            return describe_file(
                entry, describer, keep_vectors=self.keep_vectors, is_known=self._holds
            )

        def see_all(entries: Sequence[Entry], note: Note) -> list[Seen]:
            found = []
            for seen in map_ahead(see, entries, num_threads=seat.num_parallel):
                found.append(seen)
                note(len(found))
            return found

        return see_all

    def _holds(self, digest: str) -> bool:
        place = int(np.searchsorted(self.known, digest.encode()))
        return place < len(self.known) and self.known[place] == digest.encode()


def look_with(
    workers: Workers, store: IndexStore, tasks: Sequence[Task]
) -> Generator[Outcome, None, None]:
    """Looks at files as `look_at` does, with the same results, by several workers.

    Sums are split among the threads of a computation, so that last bits depend on their number:
    each worker uses as many as this process would, whatever `workers` says.

    Args:
        workers: Who describes.
        store: The index; its module must lie where all workers see it.
        tasks: The files.

    Raises:
        JobError: If a few files lost as many workers as they may.
    """
    if not tasks:
        return
    known = Known(store)
    job = DescribeJob(
        module=str((store.folder / MODULE).absolute()),
        keep_vectors=known.has_vectors,
        known=np.sort(np.array(list(known.images), "S32")),
    )
    units = [tasks[start : start + _UNIT_FILES] for start in range(0, len(tasks), _UNIT_FILES)]
    settings = dataclasses.replace(workers, num_threads=count_threads())
    with open_pool(job, settings) as pool, contextlib.closing(_see_units(pool, units)) as results:
        try:
            for unit, found in zip(units, results, strict=True):
                for task, seen in zip(unit, found, strict=True):
                    yield known.compare(task, seen)
        except BaseException:
            pool.close()  # or the threads that wait for workers would keep us
            raise


def _see_units(pool: Pool, units: Sequence[Sequence[Task]]) -> Generator[list[Seen], None, None]:
    def see(unit: Sequence[Task]) -> list[Seen]:
        return pool.call([task.entry for task in unit], f"{unit[0].name} ... {unit[-1].name}")

    ahead = _UNITS_AHEAD * pool.num_workers
    yield from map_ahead(see, units, num_threads=pool.num_workers, num_ahead=ahead)
