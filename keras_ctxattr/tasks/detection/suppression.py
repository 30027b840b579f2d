"""Of boxes of a class that overlap, the surest only: non-maximum suppression."""

import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.formats import Detections


def suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    min_score: float = 0.05,
    max_overlap: float = 0.3,
    max_per_image: int = 100,
) -> Detections:
    """Gives the surest boxes of an image, class by class, without those that say the same again.

    Of each class, boxes are taken by falling score; one is left out where its intersection over
    union with one taken before exceeds `max_overlap`.

    Args:
        boxes: Float32 `[n, 4]`, (left, top, right, bottom) edges in pixels, for all classes; or
            `[n, num_classes, 4]`, for each its own.
        scores: Float32 `[n, num_classes]`, without the background.
        min_score: What a score must exceed; `-inf` for all.
        max_overlap: Intersection over union, 0 to 1.
        max_per_image: Boxes that are kept of all classes together, those of the highest scores.

    Returns:
        The boxes that are left, by falling score.

    Raises:
        ValueError: If shapes do not fit, a number is out of its range or a value is not finite.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    _check(boxes, scores, max_overlap, max_per_image)
    if boxes.ndim == 2:
        boxes = np.broadcast_to(boxes[:, None], (*scores.shape, 4))
    options = {
        "max_output_size": max_per_image,
        "iou_threshold": max_overlap,
        "score_threshold": max(min_score, float(np.finfo(np.float32).min)),
    }
    # Not `combined_non_max_suppression`: it raises scores under -1, as of an SVM, to -1.
    with tf.device("CPU"):  # a device's own kernel may put equal scores in another order
        kept = [
            tf.image.non_max_suppression(boxes[:, number], scores[:, number], **options).numpy()
            for number in range(scores.shape[1])
        ]
    rows = np.concatenate([np.zeros(0, np.int64), *kept])
    classes = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
    order = np.argsort(-scores[rows, classes], kind="stable")[:max_per_image]
    rows, classes = rows[order], classes[order]
    return Detections(boxes=boxes[rows, classes], scores=scores[rows, classes], classes=classes)


def _check(boxes: np.ndarray, scores: np.ndarray, max_overlap: float, max_per_image: int) -> None:
    shapes = ((len(scores), 4), (*scores.shape, 4))
    if scores.ndim != 2 or boxes.shape not in shapes:
        raise ValueError(
            "`boxes` must be [n, 4] or [n, num_classes, 4] and `scores` [n, num_classes]. "
            f"Received: {list(boxes.shape)} and {list(scores.shape)}"
        )
    if not 0 <= max_overlap <= 1 or max_per_image < 1:
        raise ValueError(
            "`max_overlap` must be 0 to 1 and `max_per_image` at least 1. Received: "
            f"max_overlap={max_overlap}, max_per_image={max_per_image}"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("Boxes and scores must be finite. Received: NaN or infinity")
