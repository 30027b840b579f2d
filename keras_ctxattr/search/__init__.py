"""Search among codes, and indexes of photographs."""

from keras_ctxattr.search.choosing import index_codes
from keras_ctxattr.search.database import ImageIndexError
from keras_ctxattr.search.duplicates import DuplicateGroup, find_duplicates
from keras_ctxattr.search.explaining import AttributeExplanation, explain
from keras_ctxattr.search.exporting import export_vectors
from keras_ctxattr.search.images import ImageIndex, Match
from keras_ctxattr.search.index import HammingIndex
from keras_ctxattr.search.inverted import InvertedHammingIndex
from keras_ctxattr.search.inverting import invert_codes
from keras_ctxattr.search.list_folder import open_inverted
from keras_ctxattr.search.outliers import Outlier, find_outliers
from keras_ctxattr.search.queries import Query, find_query
from keras_ctxattr.search.sharded import ShardedHammingIndex, open_sharded
from keras_ctxattr.search.summary import summarize_index
from keras_ctxattr.search.updating import (
    Changes,
    add_photographs,
    index_photographs,
    remove_photographs,
)

__all__ = [
    "AttributeExplanation",
    "Changes",
    "DuplicateGroup",
    "HammingIndex",
    "ImageIndex",
    "ImageIndexError",
    "InvertedHammingIndex",
    "Match",
    "Outlier",
    "Query",
    "ShardedHammingIndex",
    "add_photographs",
    "explain",
    "export_vectors",
    "find_duplicates",
    "find_outliers",
    "find_query",
    "index_codes",
    "index_photographs",
    "invert_codes",
    "open_inverted",
    "open_sharded",
    "remove_photographs",
    "summarize_index",
]
