"""Boxes as shifts of other boxes: what regression learns."""

from typing import Any

import numpy as np
from keras import ops

SCALES = (0.1, 0.1, 0.2, 0.2)
"""About the standard deviations of shifts, by which they are divided."""

LARGEST = float(np.log(1000 / 16))
"""Of the logarithm of a change of size: a box never grows more than about 60 times."""


def encode_boxes(boxes: Any, targets: Any) -> Any:
    """Gives the shifts that turn boxes into their targets.

    Args:
        boxes: float `[..., 4]`, (left, top, right, bottom) edges.
        targets: float `[..., 4]`, likewise.

    Returns:
        Float `[..., 4]`: shift of the centre in widths and heights, logarithms of the change of
        width and height, all divided by `SCALES`.

    Reference:
        Girshick et al. 2014, appendix C; the scales are those of Fast R-CNN's released code.
    """
    centres, sizes = _centres_and_sizes(boxes)
    goals, goal_sizes = _centres_and_sizes(targets)
    shifts = ops.concatenate([(goals - centres) / sizes, ops.log(goal_sizes / sizes)], axis=-1)
    return shifts / ops.convert_to_tensor(SCALES, dtype=shifts.dtype)


def decode_boxes(boxes: Any, shifts: Any) -> Any:
    """Gives the boxes that shifts lead to: `encode_boxes` the other way.

    Args:
        boxes: float `[..., 4]`.
        shifts: float `[..., 4]`.

    Returns:
        Float `[..., 4]`, edges.
    """
    centres, sizes = _centres_and_sizes(boxes)
    shifts = shifts * ops.convert_to_tensor(SCALES, dtype=shifts.dtype)
    centres = centres + shifts[..., :2] * sizes
    halves = sizes * ops.exp(ops.minimum(shifts[..., 2:], LARGEST)) / 2
    return ops.concatenate([centres - halves, centres + halves], axis=-1)


def _centres_and_sizes(boxes: Any) -> tuple[Any, Any]:
    sizes = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
    return (boxes[..., :2] + boxes[..., 2:]) / 2, sizes
