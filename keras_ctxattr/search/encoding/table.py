"""A table of codes and features that is finished, read from the disk."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.shards import ShardedArray, TableFolder
from keras_ctxattr.search.encoding.shard import ABOUT, ShardError
from keras_ctxattr.search.encoding.shelves import KIND, TABLE


class EncodedTable:
    """What `encode_photographs` wrote to a folder; arrays stay on the disk.

    Args:
        folder: Of a finished table.

    Attributes:
        counts: `images`, `skipped`, `others`, `files`, `shards`, `bytes`.
        config: What the table was made of and how.

    Raises:
        ShardError: If it is not finished.
        ValueError: If it is no table, or shards are missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._table = TableFolder.open(self.folder, KIND)
        self.config = self._table.config
        about = json.loads((self.folder / TABLE).read_text(encoding="utf-8"))
        if "counts" not in about:
            raise ShardError(
                "A table must have been checked to its end; give the command that makes it again. "
                f"Received: {self.folder}"
            )
        self.counts: dict[str, int] = about["counts"]

    def __len__(self) -> int:
        return self.counts["images"]

    @functools.cached_property
    def codes(self) -> ShardedArray:
        """Uint8 `[images, num_attributes / 8]`, packed as `np.packbits` does."""
        return self._column("codes")

    @functools.cached_property
    def vectors(self) -> ShardedArray | None:
        """Float16 `[images, num_features]`, unit length; None where they were not kept."""
        return self._column("vectors") if self.config["keep_vectors"] else None

    @functools.cached_property
    def digests(self) -> ShardedArray:
        """Uint8 `[images, 16]`: equal for files of equal bytes."""
        return self._column("digests")

    @functools.cached_property
    def image_ids(self) -> np.ndarray:
        """Int64 `[images]`: places in the collection, ascending."""
        return np.asarray(self._column("image_ids"))

    def keys(self) -> Iterator[str]:
        """Gives the name of each image, in the order of the rows."""
        for shard, about in enumerate(self._abouts()):
            ids = np.load(self._table.shard_path(shard) / "image_ids.npy", allow_pickle=False)
            yield from (about["keys"][place - about["start"]] for place in ids.tolist())

    def skipped(self) -> Iterator[tuple[str, str]]:
        """Gives (name, reason) of each file that was not described, those that are no image too."""
        for about in self._abouts():
            for place, reason in about["skipped"]:
                yield about["keys"][place - about["start"]], reason

    def _abouts(self) -> Iterator[dict[str, Any]]:
        for shard in range(self._table.num_shards):
            yield json.loads((self._table.shard_path(shard) / ABOUT).read_bytes())

    def _column(self, name: str) -> ShardedArray:
        shards = range(self._table.num_shards)
        return ShardedArray(self._table.shard_path(n) / f"{name}.npy" for n in shards)
