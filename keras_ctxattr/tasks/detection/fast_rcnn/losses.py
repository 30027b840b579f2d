"""The two terms of Fast R-CNN's loss."""

from typing import Any

import keras
from keras import ops


def classification_loss(labels: Any, logits: Any) -> Any:
    """Gives the mean cross-entropy over the regions that there are.

    Args:
        labels: int `[batch, regions]`, 0 for background, -1 for no region.
        logits: float32 `[batch, regions, num_classes + 1]`.

    Returns:
        float32 `[]`, in nats.

    Reference:
        Girshick 2015, section 2.3, equation 1.
    """
    weights = ops.cast(labels >= 0, logits.dtype)
    losses = keras.losses.sparse_categorical_crossentropy(
        ops.maximum(labels, 0), logits, from_logits=True
    )
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)


def regression_loss(labels: Any, shifts: Any, goals: Any) -> Any:
    """Gives the smooth L1 distance of the objects' shifts, over the number of regions.

    Args:
        labels: int `[batch, regions]`, 0 for background, -1 for no region.
        shifts: float32 `[batch, regions, num_classes, 4]`, of each class.
        goals: float32 `[batch, regions, 4]`, as `encode_boxes` gives them.

    Returns:
        float32 `[]`.

    Reference:
        Girshick 2015, section 2.3, equations 2 and 3.
    """
    places = ops.maximum(labels - 1, 0)[..., None, None]
    own = ops.take_along_axis(shifts, places, axis=2)[..., 0, :]
    distances = ops.abs(own - goals)
    smooth = ops.where(distances < 1, 0.5 * ops.square(distances), distances - 0.5)
    is_object = ops.cast(labels > 0, shifts.dtype)
    count = ops.sum(ops.cast(labels >= 0, shifts.dtype))
    return ops.sum(ops.sum(smooth, axis=-1) * is_object) / ops.maximum(count, 1)
