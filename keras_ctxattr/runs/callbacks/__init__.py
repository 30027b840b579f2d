"""Keras callbacks that watch over a training run, steer it and write down how it goes.

Each counts training steps itself (the optimiser's `iterations` stands still where float16 skips an
update) and takes `resumed`, the checkpoint that training goes on from. Put `TimeLimit` last in the
list: it then times nothing but training.
"""

from keras_ctxattr.runs.callbacks.fitting import cosine_to_zero, fit_steps
from keras_ctxattr.runs.callbacks.guards import CollapseGuard, TrainingCollapsed
from keras_ctxattr.runs.callbacks.progress import ProgressLine
from keras_ctxattr.runs.callbacks.records import Checkpointer, MetricsLog, PatchPictures
from keras_ctxattr.runs.callbacks.steps import (
    ProgressSchedule,
    StepCallback,
    TimeLimit,
    fit_segments,
)

__all__ = [
    "Checkpointer",
    "CollapseGuard",
    "MetricsLog",
    "PatchPictures",
    "ProgressLine",
    "ProgressSchedule",
    "StepCallback",
    "TimeLimit",
    "TrainingCollapsed",
    "cosine_to_zero",
    "fit_segments",
    "fit_steps",
]
