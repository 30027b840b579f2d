"""The table of features: what extraction gives to clustering, attributes and search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.shards import ShardedArray, TableFolder
from keras_ctxattr.runs import write_atomically

KIND = "features"


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """Feature vectors, one a row, and which part of which image each describes.

    Attributes:
        image_ids: Int64 `[n]`, ids of the manifest.
        boxes: Float32 `[n, 4]`: left, top, right, bottom in pixels of the upright source image.
        vectors: Float32 or float16 `[n, num_features]`; an array, or memory-mapped shards.
        config: What made the table, as its `table.json` says; empty for one made by hand.

    Raises:
        ValueError: If the columns do not fit together.

    Example:
        >>> table = FeatureTable(np.arange(3), np.tile([0, 0, 8, 8], (3, 1)), np.eye(3, dtype="f"))
        >>> len(table.select(np.array([True, False, True])))
        2
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    vectors: np.ndarray | ShardedArray
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the columns."""
        object.__setattr__(self, "image_ids", np.asarray(self.image_ids, np.int64))
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32))
        count = len(self.image_ids)
        if not (
            self.image_ids.shape == (count,)
            and self.boxes.shape == (count, 4)
            and len(self.vectors.shape) == 2
            and self.vectors.shape[0] == count
            and self.vectors.dtype in (np.float32, np.float16)
        ):
            raise ValueError(
                "Features must be `image_ids` [n], `boxes` [n, 4] and `vectors` float32 or float16 "
                f"[n, num_features], equally many. Received: {self.image_ids.shape}, "
                f"{self.boxes.shape} and {self.vectors.dtype} {self.vectors.shape}"
            )

    @classmethod
    def open(cls, folder: str | Path) -> FeatureTable:
        """Opens a table that `extract_features` or `save` wrote; vectors stay on the disk.

        Raises:
            ValueError: If there is none, or shards are missing.
        """
        table = TableFolder.open(folder, KIND)
        return cls(
            image_ids=np.asarray(table.column("image_ids")),
            boxes=np.asarray(table.column("boxes")),
            vectors=table.column("vectors"),
            config=table.config,
        )

    @property
    def num_features(self) -> int:
        """Length of a vector."""
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: np.ndarray) -> FeatureTable:
        """Gives some rows, their vectors in memory: a mask (bool) or row numbers (integers)."""
        return FeatureTable(self.image_ids[rows], self.boxes[rows], self.vectors[rows])

    def save(self, folder: str | Path, *, shard_rows: int = 8192) -> None:
        """Writes the table: its folder appears whole, or not at all.

        Args:
            folder: New or empty.
            shard_rows: Rows of every shard but the last.

        Raises:
            ValueError: If the table has no rows, or the folder holds something.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(
                f"A table is saved to a folder that is new or empty; name another. "
                f"Received: {target}"
            )
        # What the vectors take: numpy scalars and paths become JSON in `start`.
        num_bytes = len(self) * (24 + self.num_features * self.vectors.dtype.itemsize)
        with write_atomically(target, num_bytes=num_bytes) as partial:
            table = TableFolder.start(
                partial, KIND, self.config, num_rows=len(self), shard_rows=shard_rows
            )
            for shard in range(table.num_shards):
                start, stop = table.shard_range(shard)
                table.write_shard(
                    shard,
                    {
                        "image_ids": self.image_ids[start:stop],
                        "boxes": self.boxes[start:stop],
                        "vectors": self.vectors[start:stop],
                    },
                )
