"""Fast R-CNN: all regions of a photograph share one pass through the convolutions."""

from keras_ctxattr.tasks.detection.fast_rcnn.batches import fast_rcnn_batches
from keras_ctxattr.tasks.detection.fast_rcnn.detecting import detect_regions
from keras_ctxattr.tasks.detection.fast_rcnn.network import FastRcnn, fast_rcnn_network
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe

__all__ = ["FastRcnn", "FastRcnnRecipe", "detect_regions", "fast_rcnn_batches", "fast_rcnn_network"]
