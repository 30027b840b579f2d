"""R-CNN: each region of a photograph goes through the whole network by itself."""

from keras_ctxattr.tasks.detection.rcnn.batches import rcnn_batches
from keras_ctxattr.tasks.detection.rcnn.detecting import detect_rcnn
from keras_ctxattr.tasks.detection.rcnn.network import Rcnn, build_rcnn, rcnn_network
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe
from keras_ctxattr.tasks.detection.rcnn.svm import RegionSvms, fit_region_svms

__all__ = [
    "Rcnn",
    "RcnnRecipe",
    "RegionSvms",
    "build_rcnn",
    "detect_rcnn",
    "fit_region_svms",
    "rcnn_batches",
    "rcnn_network",
]
