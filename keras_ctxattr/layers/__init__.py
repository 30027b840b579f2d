"""Keras layers that run on the device: patches, augmentation, normalisation, pooling."""

from keras_ctxattr.layers.augmentation import ColourDropping, ColourProjection, RandomDownsampling
from keras_ctxattr.layers.convolution import SmallMapConv2D
from keras_ctxattr.layers.normalization import (
    ContrastNormalization,
    FeatureScaling,
    LocalResponseNormalization,
    MeanSubtraction,
)
from keras_ctxattr.layers.patches import PatchCutter
from keras_ctxattr.layers.pooling import CeilMaxPooling2D
from keras_ctxattr.layers.processing import PatchProcessing
from keras_ctxattr.layers.transformation import RandomTransformation

__all__ = [
    "CeilMaxPooling2D",
    "ColourDropping",
    "ColourProjection",
    "ContrastNormalization",
    "FeatureScaling",
    "LocalResponseNormalization",
    "MeanSubtraction",
    "PatchCutter",
    "PatchProcessing",
    "RandomDownsampling",
    "RandomTransformation",
    "SmallMapConv2D",
]
