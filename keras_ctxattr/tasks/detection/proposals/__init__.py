"""Where objects may be: boxes by selective search, for a collection kept on disk, or read."""

from keras_ctxattr.tasks.detection.proposals.loading import load_proposals
from keras_ctxattr.tasks.detection.proposals.matlab import read_matlab_proposals
from keras_ctxattr.tasks.detection.proposals.selective_search import (
    check_selective_search,
    has_selective_search,
    propose_boxes,
)
from keras_ctxattr.tasks.detection.proposals.table import Proposals

__all__ = [
    "Proposals",
    "check_selective_search",
    "has_selective_search",
    "load_proposals",
    "propose_boxes",
    "read_matlab_proposals",
]
