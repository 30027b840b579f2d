"""How many objects proposals find, and how well they fit them.

Nothing but the boxes counts here: not their order, nor a class. Objects that are difficult are left
out.
"""

from collections.abc import Sequence

import numpy as np

from keras_ctxattr.tasks.detection.metrics import Boxes, box_overlaps


def proposal_recall(
    proposals: Sequence[Boxes],
    objects: Sequence[tuple[Boxes, np.ndarray]],
    *,
    min_overlap: float = 0.5,
) -> float:
    """Gives the share of objects that some proposal overlaps enough.

    Args:
        proposals: For each image, float `[n, 4]` edges.
        objects: For each image, in the same order, (boxes float `[m, 4]`, difficult bool `[m]`).
        min_overlap: What intersection over union must exceed.

    Returns:
        0 to 1; NaN where there is no object.

    Raises:
        ValueError: If lengths or shapes do not fit.

    Example:
        >>> import numpy as np
        >>> from keras_ctxattr.tasks.detection.recall import proposal_recall
        >>> boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]])
        >>> proposal_recall([boxes[:1]], [(boxes, np.array([False, False]))])
        0.5
    """
    overlaps = best_overlaps(proposals, objects)
    return float((overlaps > min_overlap).mean()) if len(overlaps) else float("nan")


def average_best_overlap(
    proposals: Sequence[Boxes],
    objects: Sequence[tuple[Boxes, np.ndarray, np.ndarray]],
    num_classes: int,
) -> dict[str, np.ndarray | float]:
    """Gives the average best overlap (ABO) of each class, and their mean (MABO).

    Args:
        proposals: For each image, float `[n, 4]` edges.
        objects: For each image (boxes float `[m, 4]`, classes int `[m]`, difficult bool `[m]`), as
            `score_detections` takes them.
        num_classes: How many classes there are.

    Returns:
        `average_best_overlap`, float64 `[num_classes]`, NaN for a class of which there is no
        object; `mean_average_best_overlap` over the others.

    Raises:
        ValueError: If lengths, shapes or classes do not fit.

    Reference:
        Uijlings et al. 2013, "Selective search for object recognition", section 5.
    """
    overlaps = best_overlaps(proposals, [(image[0], image[2]) for image in objects])
    kinds = [np.asarray(image[1])[~np.asarray(image[2], bool)] for image in objects]
    classes = np.concatenate([np.empty(0, int), *kinds]).astype(int)
    if len(classes) and not (classes.min() >= 0 and classes.max() < num_classes):
        raise ValueError(
            f"Classes of objects must be 0 to {num_classes - 1}. Received: {classes.min()} to "
            f"{classes.max()}"
        )
    counts = np.bincount(classes, minlength=num_classes)
    sums = np.bincount(classes, overlaps, minlength=num_classes)
    averages = np.divide(sums, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    mean = float(averages[counts > 0].mean()) if len(classes) else float("nan")
    return {"average_best_overlap": averages, "mean_average_best_overlap": mean}


def best_overlaps(
    proposals: Sequence[Boxes], objects: Sequence[tuple[Boxes, np.ndarray]]
) -> np.ndarray:
    """Gives for each object that is not difficult how much of it the best proposal has.

    Args:
        proposals: For each image, float `[n, 4]` edges.
        objects: For each image (boxes float `[m, 4]`, difficult bool `[m]`).

    Returns:
        Float64 `[objects]`, intersection over union, image after image.

    Raises:
        ValueError: If lengths or shapes do not fit.
    """
    if len(proposals) != len(objects):
        raise ValueError(
            "Proposals and objects must be of the same images. Received: "
            f"{len(proposals)} and {len(objects)} images"
        )
    parts = [
        box_overlaps(boxes, truth).max(axis=0, initial=0.0)[~np.asarray(difficult, bool)]
        for boxes, (truth, difficult) in zip(proposals, objects, strict=True)
    ]
    return np.concatenate([np.empty(0), *parts])
