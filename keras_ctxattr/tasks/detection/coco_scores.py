"""Average precision as COCO defines it, by COCO's own program."""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs

NAMES = ("coco_ap", "coco_ap50", "coco_ap75", "coco_ap_small", "coco_ap_medium", "coco_ap_large")
"""Over overlaps .5:.05:.95, at .5, at .75; and for objects by area."""


def has_coco_program() -> bool:
    """Tells whether the package pycocotools is there."""
    return importlib.util.find_spec("pycocotools") is not None


def score_coco(detections: Sequence[Detections], photographs: BoxedPhotographs) -> dict[str, float]:
    """Gives the figures of COCO's evaluation.

    Difficult objects count as crowds: what lies in them is neither right nor wrong.

    Args:
        detections: of each photograph.
        photographs: with their objects.

    Returns:
        For each of `NAMES` a share; NaN where there is no such object.

    Raises:
        ValueError: if numbers do not fit, or pycocotools is missing.
    """
    if not has_coco_program():
        raise ValueError(
            'COCO\'s evaluation needs pycocotools: pip install "keras_ctxattr[detection]". '
            "Received: no such package"
        )
    if len(detections) != len(photographs):
        raise ValueError(
            "There must be detections of every photograph. Received: "
            f"{len(detections)} for {len(photographs)} photographs"
        )
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = _detection_rows(detections)
    with contextlib.redirect_stdout(io.StringIO()):  # it says much
        truth = COCO()
        truth.dataset = _as_annotations(photographs)
        truth.createIndex()
        if not rows:
            return dict.fromkeys(NAMES, 0.0)
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = evaluation.stats[: len(NAMES)]
    return {
        name: float("nan") if value < 0 else float(value)
        for name, value in zip(NAMES, found, strict=True)
    }


def _as_annotations(photographs: BoxedPhotographs) -> dict[str, Any]:
    """Gives photographs and objects as COCO's files have them; ids start at 1."""
    manifest = photographs.manifest
    images = [
        {"id": row + 1, "height": int(height), "width": int(width)}
        for row, (height, width) in enumerate(zip(manifest.heights, manifest.widths, strict=True))
    ]
    annotations: list[dict[str, Any]] = []
    for row, (boxes, classes, difficult) in enumerate(photographs.objects):
        for box, kind, is_hard in zip(boxes, classes, difficult, strict=True):
            sides = (box[2:] - box[:2]).astype(float)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row + 1,
                    "category_id": int(kind) + 1,
                    "bbox": [*box[:2].astype(float), *sides],
                    "area": float(sides.prod()),
                    "iscrowd": int(is_hard),
                }
            )
    names = enumerate(photographs.class_names, start=1)
    categories = [{"id": number, "name": name} for number, name in names]
    return {"images": images, "annotations": annotations, "categories": categories}


def _detection_rows(detections: Sequence[Detections]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": row + 1,
            "category_id": int(kind) + 1,
            "bbox": [*box[:2].astype(float), *(box[2:] - box[:2]).astype(float)],
            "score": float(score),
        }
        for row, one in enumerate(detections)
        for box, score, kind in zip(one.boxes, one.scores, one.classes, strict=True)
    ]
