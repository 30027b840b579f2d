"""Pictures to look at: contact sheets and plots. Arrays in, uint8 RGB `[height, width, 3]` out."""

from keras_ctxattr.pictures.plots import confusion_picture, learning_curves, line_plot
from keras_ctxattr.pictures.sheets import (
    contact_sheet,
    neighbours_sheet,
    patch_positions_picture,
    show_patches,
    write_png,
)

__all__ = [
    "confusion_picture",
    "contact_sheet",
    "learning_curves",
    "line_plot",
    "neighbours_sheet",
    "patch_positions_picture",
    "show_patches",
    "write_png",
]
