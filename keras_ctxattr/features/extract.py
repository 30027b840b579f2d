"""From a table of patches to a table of features: streamed, sharded, resumable, shared by workers.

`describe_batch` is the one function that describes a batch; what is around it here reads patches
shard by shard, hands batches to processes, and writes whole shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from keras_ctxattr.data.patches import PatchTable
from keras_ctxattr.data.shards import TableFolder
from keras_ctxattr.features.descriptors import Descriptor, describe_batch
from keras_ctxattr.features.descriptors.base import check_finite
from keras_ctxattr.features.table import KIND, FeatureTable

__all__ = ["describe_batch", "extract_features"]

Progress = Callable[[int, int | None], None]

_DTYPES = ("float32", "float16")
_MIN_BATCHES = 8  # for each process: fewer are done before another process has started


def extract_features(
    patches: PatchTable,
    descriptor: Descriptor,
    folder: str | Path,
    *,
    batch_size: int = 256,
    shard_rows: int = 8192,
    dtype: str = "float32",
    num_processes: int | None = None,
    worker: int = 0,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> FeatureTable:
    """Describes all patches and writes the features to a folder, in the order of the patches.

    Killed at any moment, the same call goes on after the whole shards and ends with the same bytes;
    a finished table is opened as it is. At most two shards are in memory.

    Several machines that see one folder share the work: each makes the same call with its own
    `worker` of `num_workers`, and describes every `num_workers`-th shard. A worker that is done
    while others are not gives back an error that names what is missing; `FeatureTable.open` works
    once all shards are there.

    Args:
        patches: What to describe.
        descriptor: Fitted, if it has to be.
        folder: New, empty, or holding this table or a part of it.
        batch_size: Patches described at a time.
        shard_rows: Rows of every shard but the last.
        dtype: `"float32"`, or `"float16"` for half the disk.
        num_processes: Processes that describe batches; None takes one a core where the descriptor
            allows it and there is work for them. Results do not depend on it.
        worker: Which of the workers this is, from 0.
        num_workers: How many share the work.
        progress: Called with (rows written, rows of this worker) after every shard.

    Returns:
        The table, its vectors memory-mapped.

    Raises:
        ValueError: If an argument is impossible, the folder holds something else or features made
            otherwise, a vector is not finite, or shards of other workers are missing.
    """
    _check_arguments(batch_size, dtype, num_processes, worker, num_workers)
    descriptor.check_fitted()
    table = TableFolder.start(
        folder,
        KIND,
        {"patches": patches.digest(), "descriptor": descriptor.config, "dtype": dtype},
        num_rows=len(patches),
        shard_rows=shard_rows,
    )
    if worker == 0:
        _save_descriptor(descriptor, table)
    job = _Job(patches, descriptor, table, batch_size, dtype)
    shards = range(worker, table.num_shards, num_workers)
    if num_workers == 1:
        with table.lock():
            job.run(shards, num_processes, progress)
    else:
        job.run(shards, num_processes, progress)
    return FeatureTable.open(folder)


class _Job:
    """Describes shards of a table.

    Args:
        patches: What to describe.
        descriptor: How.
        table: Where to write.
        batch_size: Patches described at a time.
        dtype: Of the vectors written.
    """

    def __init__(
        self,
        patches: PatchTable,
        descriptor: Descriptor,
        table: TableFolder,
        batch_size: int,
        dtype: str,
    ) -> None:
        self.patches = patches
        self.descriptor = descriptor
        self.table = table
        self.batch_size = batch_size
        self.dtype = dtype

    def run(self, shards: range, num_processes: int | None, progress: Progress | None) -> None:
        """Describes those of the shards that are not there yet."""
        ranges = {shard: self.table.shard_range(shard) for shard in shards}
        total = sum(stop - start for start, stop in ranges.values())
        missing = set(self.table.missing_shards()) & set(shards)
        if not missing:
            return
        done = total - sum(ranges[shard][1] - ranges[shard][0] for shard in missing)
        num_batches = -(-(total - done) // self.batch_size)
        with joblib.Parallel(
            n_jobs=_count_processes(num_processes, self.descriptor, num_batches),
            max_nbytes=None,  # batches are sent, not laid down in a shared file
        ) as pool:
            for shard in sorted(missing):
                start, stop = ranges[shard]
                self.table.write_shard(shard, self._describe(start, stop, pool))
                done += stop - start
                if progress is not None:
                    progress(done, total)

    def _describe(self, start: int, stop: int, pool: joblib.Parallel) -> dict[str, np.ndarray]:
        """Gives the columns of a shard; batches begin anew in each, so that its bytes stay."""
        batches = pool(self._tasks(start, stop))
        with np.errstate(over="ignore"):  # said below, with the row
            vectors = np.concatenate([batch.astype(self.dtype) for batch in batches])
        check_finite(vectors, start)
        return {
            "image_ids": self.patches.image_ids[start:stop],
            "boxes": self.patches.boxes[start:stop],
            "vectors": vectors,
        }

    def _tasks(self, start: int, stop: int) -> Iterator[Any]:
        describe = joblib.delayed(describe_batch)
        for row in range(start, stop, self.batch_size):
            pixels = self.patches.pixels[row : min(row + self.batch_size, stop)]
            yield describe(self.descriptor, pixels, row)


def _save_descriptor(descriptor: Descriptor, table: TableFolder) -> None:
    """Keeps what made the vectors beside them; a module is kept as its own folder."""
    path = table.path / "descriptor.npz"
    if descriptor.parallel and not path.exists():
        descriptor.save(path)


def _count_processes(wanted: int | None, descriptor: Descriptor, num_batches: int) -> int:
    if not descriptor.parallel:
        return 1
    if wanted is not None:
        return wanted
    return max(1, min(joblib.cpu_count(), num_batches // _MIN_BATCHES))


def _check_arguments(
    batch_size: int, dtype: str, num_processes: int | None, worker: int, num_workers: int
) -> None:
    if batch_size < 1 or (num_processes is not None and num_processes < 1):
        raise ValueError(
            "`batch_size` and `num_processes` must be at least 1. "
            f"Received: batch_size={batch_size}, num_processes={num_processes}"
        )
    if dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(_DTYPES)}. Received: {dtype!r}")
    if not 0 <= worker < num_workers:
        raise ValueError(
            "`worker` must be one of 0...num_workers-1. "
            f"Received: worker={worker}, num_workers={num_workers}"
        )
