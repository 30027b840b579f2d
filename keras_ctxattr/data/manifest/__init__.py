"""What a collection of images holds: found, checked and listed once, then read at random."""

from keras_ctxattr.data.manifest.changes import find_change
from keras_ctxattr.data.manifest.scan import label_sources, scan_images
from keras_ctxattr.data.manifest.table import CollectionError, Manifest

__all__ = ["CollectionError", "Manifest", "find_change", "label_sources", "scan_images"]
