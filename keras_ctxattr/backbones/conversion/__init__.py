"""Other forms of a trained backbone: fully convolutional, without batch normalisation, in part.

The conversions replay the backbone's graph layer by layer, so they take any functional or
sequential Keras model, not only ours. The result shares nothing with the original, computes in
float32 whatever policy trained it, and keeps the layers' names.
"""

from keras_ctxattr.backbones.conversion.affine import ChannelAffine
from keras_ctxattr.backbones.conversion.dense import dense_evaluation
from keras_ctxattr.backbones.conversion.folding import fold_batch_normalization
from keras_ctxattr.backbones.conversion.parts import convolutional_part, pyramid_parts
from keras_ctxattr.backbones.conversion.sliding import fully_convolutional

__all__ = [
    "ChannelAffine",
    "convolutional_part",
    "dense_evaluation",
    "fold_batch_normalization",
    "fully_convolutional",
    "pyramid_parts",
]
