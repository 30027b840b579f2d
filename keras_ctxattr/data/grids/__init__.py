"""Grids of patches over images, and the training batches of context prediction that they make."""

from keras_ctxattr.data.grids.batches import grid_batches
from keras_ctxattr.data.grids.config import GridConfig
from keras_ctxattr.data.grids.layout import POSITIONS

__all__ = ["POSITIONS", "GridConfig", "grid_batches"]
