"""Search among codes."""

from keras_ctxattr.search.index import HammingIndex

__all__ = ["HammingIndex"]
