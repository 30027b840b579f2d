"""Detections as files that the benchmarks' own programs read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.runs import write_atomically, write_json


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """What was found in one image.

    Attributes:
        boxes: Float32 `[n, 4]`, (left, top, right, bottom) edges in pixels of the upright image.
        scores: Float32 `[n]`, the higher the surer.
        classes: Int32 `[n]`, 0 to the number of classes, exclusive.

    Raises:
        ValueError: If lengths or shapes do not fit.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __post_init__(self) -> None:
        """Checks the shapes and brings the columns to their types."""
        count = len(self.scores)
        shapes = {"boxes": (count, 4), "scores": (count,), "classes": (count,)}
        kinds = {"boxes": np.float32, "scores": np.float32, "classes": np.int32}
        for name, shape in shapes.items():
            values = np.asarray(getattr(self, name), kinds[name])
            if values.shape != shape:
                raise ValueError(
                    f"`{name}` must be {list(shape)}. Received: {list(np.shape(values))}"
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.scores)


def write_voc_results(
    folder: str | Path,
    detections: Sequence[Detections],
    stems: Sequence[str],
    class_names: Sequence[str],
    *,
    image_set: str = "test",
    competition: str = "comp4",
) -> None:
    """Writes detections as the development kit of VOC reads them: a file a class, all or none.

    A line is the image's name, the score, and the box in pixels counted from 1, both ends included.

    Args:
        folder: New or empty; will hold `comp4_det_test_aeroplane.txt` and so on.
        detections: Of each image.
        stems: Names of the images without suffix, as the lists of `ImageSets` have them.
        class_names: In the order of their numbers.
        image_set: What was detected in.
        competition: `"comp3"` where the training data of VOC alone were used, else `"comp4"`.

    Raises:
        ValueError: If numbers do not fit.
    """
    _check(detections, stems, class_names)
    with write_atomically(folder) as partial:
        partial.mkdir()
        for number, name in enumerate(class_names):
            lines = [
                f"{stem} {score:.6f} {box[0] + 1:.1f} {box[1] + 1:.1f} {box[2]:.1f} {box[3]:.1f}\n"
                for stem, found in zip(stems, detections, strict=True)
                for box, score, kind in zip(found.boxes, found.scores, found.classes, strict=True)
                if kind == number
            ]
            path = partial / f"{competition}_det_{image_set}_{name}.txt"
            path.write_text("".join(lines), encoding="utf-8")


def write_coco_results(
    path: str | Path,
    detections: Sequence[Detections],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> None:
    """Writes detections as COCO's evaluation reads them: left, top, width and height.

    Args:
        path: The JSON file.
        detections: Of each image.
        image_ids: Of the images, as their annotations have them.
        category_ids: Of the classes, in the order of their numbers.

    Raises:
        ValueError: If numbers do not fit.
    """
    _check(detections, image_ids, category_ids)
    rows = []
    for image, found in zip(image_ids, detections, strict=True):
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        boxes = np.hstack([found.boxes[:, :2], sizes]).astype(np.float64).round(3)
        for box, score, kind in zip(boxes, found.scores, found.classes, strict=True):
            rows.append(
                {
                    "image_id": int(image),
                    "category_id": int(category_ids[kind]),
                    "bbox": box.tolist(),
                    "score": round(float(score), 6),
                }
            )
    write_json(path, rows)


def _check(detections: Sequence[Detections], images: Sequence, classes: Sequence) -> None:
    if len(detections) != len(images):
        raise ValueError(
            f"There must be detections of every image. Received: {len(detections)} for "
            f"{len(images)} images"
        )
    highest = max((int(found.classes.max()) for found in detections if len(found)), default=-1)
    if highest >= len(classes) or any((found.classes < 0).any() for found in detections):
        raise ValueError(
            f"Classes must be 0 to {len(classes) - 1}. Received: {highest}, or one below 0"
        )
