"""Which proposals are objects, which are background: the examples of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_ctxattr.tasks.detection.metrics import box_overlaps
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Boxes to learn from, photograph by photograph, and the object that each overlaps most.

    Attributes:
        boxes: Float32 `[n, 4]`, edges in pixels of the upright photograph: its objects, then its
            proposals.
        overlaps: Float32 `[n]`, intersection over union with that object; 0 where there is none.
        labels: Int32 `[n]`, that object's class, from 1; 0 where there is none.
        targets: Float32 `[n, 4]`, that object's box; the own box where there is none.
        offsets: Int64 `[photographs + 1]`: the rows of photograph p are offsets[p] to
            offsets[p + 1], exclusive.
    """

    boxes: np.ndarray
    overlaps: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray


def find_candidates(photographs: BoxedPhotographs, proposals: Sequence[np.ndarray]) -> Candidates:
    """Compares all proposals with the objects of their photographs.

    Difficult objects are neither learnt nor kept out of the background, as in the released code.

    Args:
        photographs: Photographs and their objects.
        proposals: For each, float32 `[n, 4]`, edges in pixels.

    Raises:
        ValueError: If there are not as many proposals as photographs.

    Reference:
        Girshick 2015, section 2.3.
    """
    if len(proposals) != len(photographs):
        raise ValueError(
            "There must be proposals of every photograph. Received: "
            f"{len(proposals)} for {len(photographs)} photographs"
        )
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("boxes", "overlaps", "labels", "targets")
    }
    for boxes, (objects, classes, difficult) in zip(proposals, photographs.objects, strict=True):
        easy = ~np.asarray(difficult, bool)
        found = _compare(np.asarray(boxes, np.float32), objects[easy], classes[easy])
        for name, values in found.items():
            columns[name].append(values)
    counts = [len(one) for one in columns["boxes"]]
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Candidates(**joined, offsets=np.cumsum([0, *counts]).astype(np.int64))


def _compare(
    proposals: np.ndarray, objects: np.ndarray, classes: np.ndarray
) -> dict[str, np.ndarray]:
    boxes = np.concatenate([objects, proposals.reshape(-1, 4)]).astype(np.float32)
    if not len(objects):
        nothing = np.zeros(len(boxes))
        return {
            "boxes": boxes,
            "overlaps": nothing.astype(np.float32),
            "labels": nothing.astype(np.int32),
            "targets": boxes,
        }
    overlaps = box_overlaps(boxes, objects)
    best = overlaps.argmax(axis=1)
    return {
        "boxes": boxes,
        "overlaps": overlaps.max(axis=1).astype(np.float32),
        "labels": (classes[best] + 1).astype(np.int32),
        "targets": objects[best].astype(np.float32),
    }
