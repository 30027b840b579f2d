"""Weights that start from data instead of chance.

Stage 1 gives every layer that has nothing to start from filters made of its own inputs, each with
unit responses; stage 2 scales all layers so that they learn at the same rate.

Not among the names of `keras_ctxattr.backbones`: it needs TensorFlow and scikit-learn, which the
networks themselves do not.
"""

from keras_ctxattr.backbones.initialization.calibration import Calibration
from keras_ctxattr.backbones.initialization.initialize import (
    InitializationReport,
    initialize_from_batches,
)

__all__ = ["Calibration", "InitializationReport", "initialize_from_batches"]
