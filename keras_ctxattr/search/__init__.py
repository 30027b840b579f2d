"""Search among codes, and indexes of photographs."""

from keras_ctxattr.search.images import ImageIndex, Match
from keras_ctxattr.search.index import HammingIndex
from keras_ctxattr.search.store import ImageIndexError
from keras_ctxattr.search.updating import (
    Changes,
    add_photographs,
    index_photographs,
    remove_photographs,
)

__all__ = [
    "Changes",
    "HammingIndex",
    "ImageIndex",
    "ImageIndexError",
    "Match",
    "add_photographs",
    "index_photographs",
    "remove_photographs",
]
