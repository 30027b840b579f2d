"""Pictures to look at: contact sheets, plots, galleries. Arrays in, uint8 RGB or a page out."""

from keras_ctxattr.pictures.attributes import attribute_map, attribute_sheet
from keras_ctxattr.pictures.detections import DrawnBoxes, detection_picture, detections_sheet
from keras_ctxattr.pictures.galleries import ClusterCard, cluster_sheet, write_gallery
from keras_ctxattr.pictures.normals import (
    errors_picture,
    normals_legend,
    normals_picture,
    normals_sheet,
)
from keras_ctxattr.pictures.plots import (
    confusion_picture,
    learning_curves,
    line_plot,
    precision_recall_plot,
)
from keras_ctxattr.pictures.sheets import (
    contact_sheet,
    neighbours_sheet,
    patch_positions_picture,
    show_patches,
    write_png,
)
from keras_ctxattr.pictures.tiles import captioned_tile, note_tile

__all__ = [
    "ClusterCard",
    "DrawnBoxes",
    "attribute_map",
    "attribute_sheet",
    "captioned_tile",
    "cluster_sheet",
    "confusion_picture",
    "contact_sheet",
    "detection_picture",
    "detections_sheet",
    "errors_picture",
    "learning_curves",
    "line_plot",
    "neighbours_sheet",
    "normals_legend",
    "normals_picture",
    "normals_sheet",
    "note_tile",
    "patch_positions_picture",
    "precision_recall_plot",
    "show_patches",
    "write_gallery",
    "write_png",
]
