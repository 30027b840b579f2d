"""What a predicted normal costs, where there is one to compare it with."""

from typing import Any

from keras import ops

_DEGREES = 57.29577951308232


def masked_cosine_loss(normals: Any, predicted: Any) -> tuple[Any, Any]:
    """Gives the mean of 1 - cosine over the pixels that have a normal.

    Args:
        normals: float `[..., 3]`, of length 1, or 0 where there is none.
        predicted: float `[..., 3]`, of length 1.

    Returns:
        (float32 scalar, 0 to 2, 0 where no pixel has a normal; float32 scalar, how many have).

    Reference:
        Ladicky, Zeisl, Pollefeys 2014 and Wang, Fouhey, Gupta 2015 classify over a code book of
        normals instead; the cosine is the loss of Eigen and Fergus 2015.
    """
    normals, predicted = ops.cast(normals, "float32"), ops.cast(predicted, "float32")
    is_valid = _is_valid(normals)
    count = ops.sum(is_valid)
    costs = 1 - ops.sum(normals * predicted, axis=-1)
    return ops.sum(is_valid * costs) / ops.maximum(count, 1.0), count


def masked_angle(normals: Any, predicted: Any) -> Any:
    """Gives the mean angle in degrees over the pixels that have a normal, of the same arguments."""
    normals, predicted = ops.cast(normals, "float32"), ops.cast(predicted, "float32")
    is_valid = _is_valid(normals)
    cosine = ops.clip(ops.sum(normals * predicted, axis=-1), -1.0, 1.0)
    angles = ops.arccos(cosine) * _DEGREES
    return ops.sum(is_valid * angles) / ops.maximum(ops.sum(is_valid), 1.0)


def _is_valid(normals: Any) -> Any:
    """Tells by the length: float32 `[...]`, 1 or 0."""
    return ops.cast(ops.sum(ops.square(normals), axis=-1) > 0.25, "float32")
