"""From annotated photographs and a network to a detector, in a run folder."""

from keras_ctxattr.tasks.detection.finetuning.methods import METHODS
from keras_ctxattr.tasks.detection.finetuning.proposing import propose_for_run, propose_nothing
from keras_ctxattr.tasks.detection.finetuning.running import finetune_detection, load_detector
from keras_ctxattr.tasks.detection.finetuning.scoring import score_photographs

__all__ = [
    "METHODS",
    "finetune_detection",
    "load_detector",
    "propose_for_run",
    "propose_nothing",
    "score_photographs",
]
