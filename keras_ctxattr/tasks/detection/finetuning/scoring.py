"""What detections are worth, as numbers and as files."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.metrics import score_detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs


def score_photographs(
    detections: Sequence[Detections], photographs: BoxedPhotographs
) -> dict[str, Any]:
    """Gives mean average precision by the rules of VOC, and that of every class.

    Args:
        detections: of each photograph.
        photographs: with their objects.

    Returns:
        `map_voc07` and `map_voc12`, shares; `average_precision`, that of 2007 by class, of those
        classes alone that have objects; `num_photographs`, `num_objects`.
    """
    found = [(one.boxes, one.scores, one.classes) for one in detections]
    scores = score_detections(found, photographs.objects, len(photographs.class_names))
    precisions = np.asarray(scores["average_precision_voc07"])
    return {
        "map_voc07": scores["map_voc07"],
        "map_voc12": scores["map_voc12"],
        "average_precision": {
            name: float(value)
            for name, value in zip(photographs.class_names, precisions, strict=True)
            if not np.isnan(value)
        },
        "num_photographs": len(photographs),
        "num_objects": int(np.sum(scores["num_objects"])),
    }


def stems_of(photographs: BoxedPhotographs) -> list[str]:
    """Gives the photographs' names without folder and suffix, as the lists of VOC have them."""
    return [PurePosixPath(key).stem for key in photographs.manifest.keys]
