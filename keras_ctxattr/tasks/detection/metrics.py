"""Average precision of detections, by the rules of PASCAL VOC.

Boxes are (left, top, right, bottom) of the pixels' edges, counted from 0. VOC counts pixels, both
ends included, and adds 1 to every length; between edges that is the plain length, so that overlaps
here are those of VOC to the last digit.

The rules, for one class: detections of all images are taken by falling score. Each looks for the
object of its image that it overlaps most. If that is more than half of their union, and the object

- is difficult, the detection counts for nothing;
- was not found before, it is right, and the object is found;
- was found before, it is a duplicate, and wrong.

Otherwise it is wrong. Difficult objects need not be found. (The second best object is never looked
for, as in the authors' code.)
"""

from collections.abc import Sequence

import numpy as np

RECALL_POINTS = np.linspace(0, 1, 11)

WRONG, RIGHT, DUPLICATE, IGNORED = range(4)
"""What a detection is."""

Boxes = np.ndarray
"""Float `[boxes, 4]`."""


def box_overlaps(boxes: Boxes, others: Boxes) -> np.ndarray:
    """Gives intersection over union of every two boxes.

    Args:
        boxes: float `[n, 4]`, (left, top, right, bottom) edges.
        others: float `[m, 4]`, likewise.

    Returns:
        float64 `[n, m]`, 0 to 1; 0 where both are empty.
    """
    one, other = (_check_boxes(given)[:, None] for given in (boxes, others))
    other = other.transpose(1, 0, 2)  # [1, m, 4]
    corners = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.maximum(corners, 0).prod(axis=-1)
    union = _areas(one) + _areas(other) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match_detections(
    detections: Sequence[tuple[Boxes, np.ndarray]],
    objects: Sequence[tuple[Boxes, np.ndarray]],
    *,
    min_overlap: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Tells which detections of one class are right, by falling score.

    Args:
        detections: for each image (boxes float `[n, 4]`, scores float `[n]`).
        objects: for each image, in the same order, (boxes float `[m, 4]`, difficult bool `[m]`).
        min_overlap: what intersection over union must exceed.

    Returns:
        (scores float64 `[counted]`, is_right bool `[counted]`, num_objects): detections that count
        for something, the highest score first (equal ones in the order given), and the number of
        objects that are not difficult.

    Raises:
        ValueError: if lengths or shapes do not fit, or a score is not finite.

    Reference:
        Everingham et al. 2010, "The PASCAL visual object classes challenge", section 4.2.
    """
    verdicts, _ = judge_detections(detections, objects, min_overlap=min_overlap)
    scores, judged = _join([given for _, given in detections]), _join(verdicts)
    order = np.argsort(-scores, kind="stable")
    kept = order[judged[order] != IGNORED]
    num_objects = sum(int((~np.asarray(difficult, bool)).sum()) for _, difficult in objects)
    return scores[kept], judged[kept] == RIGHT, num_objects


def judge_detections(
    detections: Sequence[tuple[Boxes, np.ndarray]],
    objects: Sequence[tuple[Boxes, np.ndarray]],
    *,
    min_overlap: float = 0.5,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tells what each detection of one class is, by falling score over all images.

    Args:
        detections: for each image (boxes float `[n, 4]`, scores float `[n]`).
        objects: for each image, in the same order, (boxes float `[m, 4]`, difficult bool `[m]`).
        min_overlap: what intersection over union must exceed.

    Returns:
        For each image int64 `[n]`: `WRONG`, `RIGHT`, `DUPLICATE` or `IGNORED` (of a difficult
        object); and bool `[m]`, the objects that were found.

    Raises:
        ValueError: if lengths or shapes do not fit, or a score is not finite.
    """
    _check_images(detections, objects)
    images = np.repeat(np.arange(len(detections)), [len(boxes) for boxes, _ in detections])
    rows = _join([np.arange(len(boxes)) for boxes, _ in detections]).astype(int)
    best, overlaps = _find_best(detections, objects)
    verdicts = [np.full(len(boxes), WRONG) for boxes, _ in detections]
    found = [np.zeros(len(difficult), bool) for _, difficult in objects]
    for place in np.argsort(-_join([given for _, given in detections]), kind="stable"):
        image, row = images[place], rows[place]
        if not overlaps[image][row] > min_overlap:
            continue
        target = best[image][row]
        if objects[image][1][target]:
            verdicts[image][row] = IGNORED
        else:
            verdicts[image][row] = DUPLICATE if found[image][target] else RIGHT
            found[image][target] = True
    return verdicts, found


def precision_recall(is_right: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives precision and recall after each detection.

    Args:
        is_right: bool `[detections]`, by falling score.
        num_objects: objects to be found, at least 1.

    Returns:
        (precision, recall), float64 `[detections]` each.
    """
    right = np.cumsum(np.asarray(is_right, bool))
    return right / np.arange(1, len(right) + 1), right / num_objects


def average_precision_11_points(is_right: np.ndarray, num_objects: int) -> float:
    """Gives the mean over 11 recalls (0, .1 ... 1) of the best precision at that recall or above.

    This is the figure of VOC 2007. Without objects it is NaN.

    Args:
        is_right: bool `[detections]`, by falling score, as `match_detections` gives them.
        num_objects: objects to be found.

    Reference:
        Everingham et al. 2010, section 4.2, equations 1 and 2.
    """
    if not num_objects:
        return float("nan")
    precision, recall = precision_recall(is_right, num_objects)
    reached = [precision[recall >= point] for point in RECALL_POINTS]
    return float(np.mean([values.max(initial=0.0) for values in reached]))


def average_precision_area(is_right: np.ndarray, num_objects: int) -> float:
    """Gives the area under precision as a function of recall, made to fall only.

    This is the figure of VOC from 2010 on. Without objects it is NaN.

    Args:
        is_right: bool `[detections]`, by falling score.
        num_objects: objects to be found.
    """
    if not num_objects:
        return float("nan")
    precision, recall = precision_recall(is_right, num_objects)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * highest).sum())


def score_detections(
    detections: Sequence[tuple[Boxes, np.ndarray, np.ndarray]],
    objects: Sequence[tuple[Boxes, np.ndarray, np.ndarray]],
    num_classes: int,
    *,
    min_overlap: float = 0.5,
) -> dict[str, np.ndarray | float]:
    """Gives the average precision of every class, and their means.

    Args:
        detections: for each image (boxes float `[n, 4]`, scores float `[n]`, classes int `[n]`).
        objects: for each image, in the same order, (boxes float `[m, 4]`, classes int `[m]`,
            difficult bool `[m]`).
        num_classes: classes are 0 to this, exclusive.
        min_overlap: what intersection over union must exceed.

    Returns:
        `average_precision_voc07` and `average_precision_voc12`, float64 `[num_classes]`, NaN for a
        class of which there is no object; `map_voc07` and `map_voc12`, the means over the others;
        `num_objects`, int64 `[num_classes]`, those that are not difficult.

    Raises:
        ValueError: if lengths, shapes or classes do not fit.
    """
    for name, (given, place) in {"detections": (detections, 2), "objects": (objects, 1)}.items():
        classes = _join([image[place] for image in given])
        if len(classes) and not (classes.min() >= 0 and classes.max() < num_classes):
            raise ValueError(
                f"Classes of {name} must be 0 to {num_classes - 1}. Received: {classes.min():g} to "
                f"{classes.max():g}"
            )
    voc07, voc12, counts = np.zeros((3, num_classes))
    for number in range(num_classes):
        found = [_of_class(image[:2], image[2] == number) for image in detections]
        truth = [_of_class((image[0], image[2]), image[1] == number) for image in objects]
        _, is_right, counts[number] = match_detections(found, truth, min_overlap=min_overlap)
        voc07[number] = average_precision_11_points(is_right, int(counts[number]))
        voc12[number] = average_precision_area(is_right, int(counts[number]))
    is_there = counts > 0
    return {
        "average_precision_voc07": voc07,
        "average_precision_voc12": voc12,
        "map_voc07": float(voc07[is_there].mean()) if is_there.any() else float("nan"),
        "map_voc12": float(voc12[is_there].mean()) if is_there.any() else float("nan"),
        "num_objects": counts.astype(np.int64),
    }


def _of_class(
    columns: tuple[np.ndarray, np.ndarray], mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    boxes, values = columns
    return boxes[mask], values[mask]


def _find_best(
    detections: Sequence[tuple[Boxes, np.ndarray]], objects: Sequence[tuple[Boxes, np.ndarray]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gives for each detection of each image the object it overlaps most, and how much."""
    best, overlaps = [], []
    for (boxes, _), (truth, _) in zip(detections, objects, strict=True):
        shared = box_overlaps(boxes, truth)
        if shared.shape[1]:
            best.append(shared.argmax(axis=1))
            overlaps.append(shared.max(axis=1))
        else:
            best.append(np.zeros(len(shared), int))
            overlaps.append(np.zeros(len(shared)))
    return best, overlaps


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *parts])


def _areas(boxes: Boxes) -> np.ndarray:
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)


def _check_boxes(boxes: Boxes) -> np.ndarray:
    given = np.asarray(boxes, np.float64).reshape(-1, 4) if np.size(boxes) == 0 else boxes
    if np.ndim(given) != 2 or np.shape(given)[1] != 4:
        raise ValueError(
            f"Boxes must be [boxes, 4]: left, top, right, bottom. Received: {list(np.shape(boxes))}"
        )
    return np.asarray(given, np.float64)


def _check_images(
    detections: Sequence[tuple[Boxes, np.ndarray]], objects: Sequence[tuple[Boxes, np.ndarray]]
) -> None:
    if len(detections) != len(objects):
        raise ValueError(
            "Detections and objects must be of the same images. Received: "
            f"{len(detections)} and {len(objects)} images"
        )
    for image, ((boxes, scores), (truth, difficult)) in enumerate(
        zip(detections, objects, strict=True)
    ):
        if len(boxes) != len(scores) or len(truth) != len(difficult):
            raise ValueError(
                "Every detection needs a score, and every object must say whether it is difficult. "
                f"Received: {len(boxes)} boxes with {len(scores)} scores, {len(truth)} objects "
                f"with {len(difficult)} flags in image {image}"
            )
        if not np.isfinite(scores).all():
            raise ValueError(f"Scores must be finite. Received: NaN or infinity in image {image}")
