"""Chromatic aberration: how well a patch tells where on the lens it was.

Lateral aberration magnifies the colours differently, so the shift between green and the other two
channels points away from the image's centre. A network that reads it solves the pretext task
without looking at content. Here aberration is added to photographs, and a regressor shows how much
of the position each colour guard lets through.
"""

from keras_ctxattr.context.aberration.optics import add_lateral_aberration
from keras_ctxattr.context.aberration.patches import PositionConfig, position_batches
from keras_ctxattr.context.aberration.regressor import (
    PositionRegressor,
    SecondOrderPooling,
    position_loss,
    position_network,
)
from keras_ctxattr.context.aberration.scores import position_errors, predict_positions

__all__ = [
    "PositionConfig",
    "PositionRegressor",
    "SecondOrderPooling",
    "add_lateral_aberration",
    "position_batches",
    "position_errors",
    "position_loss",
    "position_network",
    "predict_positions",
]
