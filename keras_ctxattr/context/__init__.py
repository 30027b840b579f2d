"""Context prediction: the pretext model and what watches over its training."""

from keras_ctxattr.context.head import PairHead
from keras_ctxattr.context.predictor import ContextPredictor, position_loss

__all__ = ["ContextPredictor", "PairHead", "position_loss"]
