"""From a collection of image files to decoded images and training batches."""

from keras_ctxattr.data.bsds import contour_patches, read_bsds
from keras_ctxattr.data.decode import decode_image, read_orientation
from keras_ctxattr.data.grids import POSITIONS, GridConfig, grid_batches
from keras_ctxattr.data.images import encoded_reader, load_images
from keras_ctxattr.data.manifest import CollectionError, Manifest, scan_images
from keras_ctxattr.data.patches import PatchTable, cut_patches, write_patch_table
from keras_ctxattr.data.shards import ShardedArray
from keras_ctxattr.data.voc import read_voc

__all__ = [
    "POSITIONS",
    "CollectionError",
    "GridConfig",
    "Manifest",
    "PatchTable",
    "ShardedArray",
    "contour_patches",
    "cut_patches",
    "decode_image",
    "encoded_reader",
    "grid_batches",
    "load_images",
    "read_bsds",
    "read_orientation",
    "read_voc",
    "scan_images",
    "write_patch_table",
]
