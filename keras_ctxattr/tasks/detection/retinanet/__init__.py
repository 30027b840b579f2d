"""RetinaNet: the detector of keras-hub on a network of ours (extra `detection`)."""

from keras_ctxattr.tasks.detection.retinanet.batches import retinanet_batches
from keras_ctxattr.tasks.detection.retinanet.detecting import detect_retinanet
from keras_ctxattr.tasks.detection.retinanet.network import (
    build_retinanet,
    check_keras_hub,
    load_retinanet,
)
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe

__all__ = [
    "RetinaNetRecipe",
    "build_retinanet",
    "check_keras_hub",
    "detect_retinanet",
    "load_retinanet",
    "retinanet_batches",
]
