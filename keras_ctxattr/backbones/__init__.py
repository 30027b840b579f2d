"""Networks from patches to features, and their conversion to other forms."""

from keras_ctxattr.backbones.conversion import fold_batch_normalization, fully_convolutional
from keras_ctxattr.backbones.networks import BACKBONES, alexnet, compact, small, vgg16

__all__ = [
    "BACKBONES",
    "alexnet",
    "compact",
    "fold_batch_normalization",
    "fully_convolutional",
    "small",
    "vgg16",
]
