"""Patches of a collection: cut once, kept with where each is from, read at random.

patches/
  table.json       configuration, versions, number of patches
  keys.npy ...     the keys of the images
  00000/           a shard: image_ids.npy, boxes.npy, pixels.npy
  ...
"""

from keras_ctxattr.data.patches.cutting import cut_patches
from keras_ctxattr.data.patches.table import PatchTable, write_patch_table

__all__ = ["PatchTable", "cut_patches", "write_patch_table"]
