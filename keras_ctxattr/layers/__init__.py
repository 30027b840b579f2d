"""Keras layers that run on the device: patches, augmentation, normalisation, pooling."""

from keras_ctxattr.layers.augmentation import ColourDropping, ColourProjection, RandomDownsampling
from keras_ctxattr.layers.canvases import CanvasProcessing, CropProcessing
from keras_ctxattr.layers.convolution import SmallMapConv2D
from keras_ctxattr.layers.fragments import JoinedFragments2D, MapFragments2D
from keras_ctxattr.layers.normalization import (
    ContrastNormalization,
    FeatureScaling,
    LocalResponseNormalization,
    MeanSubtraction,
    WithinChannelNormalization,
)
from keras_ctxattr.layers.patches import PatchCutter
from keras_ctxattr.layers.pooling import CeilMaxPooling2D
from keras_ctxattr.layers.processing import PatchProcessing
from keras_ctxattr.layers.regions import RegionMaxPooling2D
from keras_ctxattr.layers.synchronized import SynchronizedBatchNormalization, SynchronizedDropout
from keras_ctxattr.layers.transformation import RandomTransformation
from keras_ctxattr.layers.warping import RegionWarping

__all__ = [
    "CanvasProcessing",
    "CeilMaxPooling2D",
    "ColourDropping",
    "ColourProjection",
    "ContrastNormalization",
    "CropProcessing",
    "FeatureScaling",
    "JoinedFragments2D",
    "LocalResponseNormalization",
    "MapFragments2D",
    "MeanSubtraction",
    "PatchCutter",
    "PatchProcessing",
    "RandomDownsampling",
    "RandomTransformation",
    "RegionMaxPooling2D",
    "RegionWarping",
    "SmallMapConv2D",
    "SynchronizedBatchNormalization",
    "SynchronizedDropout",
    "WithinChannelNormalization",
]
