"""Tables larger than memory: rows in memory-mapped shards, written one whole shard after another.

A *table folder* holds

    table.json     kind, configuration, versions, rows per shard, rows in all (null until known)
    00000/         the first shard: one `.npy` per column
    00001/         ...

A shard is a folder that is written beside its place and renamed: it is there whole or not at all.
So a process killed at any moment leaves whole shards, and the same call goes on after the last.
"""

from keras_ctxattr.data.shards.array import ShardedArray
from keras_ctxattr.data.shards.folder import TableFolder, split_rows

__all__ = ["ShardedArray", "TableFolder", "split_rows"]
