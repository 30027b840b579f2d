"""Codes and features of whole collections, as shards that several workers write.

    table/
      table.json       of which module and collection, rows a shard; when all is done, counts
      00000/           a shard: a fixed range of the collection's files, by key
        image_ids.npy  int64 [n], places in the collection of the images that were described
        codes.npy      uint8 [n, num_attributes / 8]
        vectors.npy    float16 [n, num_features], unit length; left out where not asked for
        digests.npy    uint8 [n, 16], BLAKE2b of each file's bytes
        shard.json     keys of the whole range, what was skipped and why, digests of these files
      00001/
      ...

`shard.json` is written last, and on a disk the folder appears whole: a shard is there or it is not.
"""

from keras_ctxattr.search.encoding.encode import Encoded, encode_photographs
from keras_ctxattr.search.encoding.shard import ShardError
from keras_ctxattr.search.encoding.table import EncodedTable

__all__ = ["Encoded", "EncodedTable", "ShardError", "encode_photographs"]
