"""From a collection of image files to decoded images and training batches."""

from keras_ctxattr.data.decode import decode_image, read_orientation
from keras_ctxattr.data.grids import POSITIONS, GridConfig, grid_batches
from keras_ctxattr.data.images import encoded_reader, load_images
from keras_ctxattr.data.manifest import CollectionError, Manifest, scan_images
from keras_ctxattr.data.voc import read_voc

__all__ = [
    "POSITIONS",
    "CollectionError",
    "GridConfig",
    "Manifest",
    "decode_image",
    "encoded_reader",
    "grid_batches",
    "load_images",
    "read_orientation",
    "read_voc",
    "scan_images",
]
