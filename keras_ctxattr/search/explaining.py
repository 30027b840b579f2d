"""What the attributes of an image are: how far it is on each side, and who else is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from keras_ctxattr.search.describing import Description
from keras_ctxattr.search.images import ImageIndex
from keras_ctxattr.search.records import IndexedImage

_CHUNK = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeExplanation:
    """One attribute of an image.

    Attributes:
        bit: Its number in the code, 0 to num_attributes - 1.
        is_set: Whether the image has it.
        score: Of the image; the bit is set above 0.
        strength: By how many standard deviations of the index the score lies beyond the mean of the
            index, towards the image's side. Below 0, the image is less so than most.
        share: Of the images in the index that have the attribute, 0 to 1.
        examples: Images that are farthest on the image's side, the farthest first.
        opposites: Images that are farthest on the other side.
    """

    bit: int
    is_set: bool
    score: float
    strength: float
    share: float
    examples: list[IndexedImage]
    opposites: list[IndexedImage]


def explain(
    index: ImageIndex,
    description: Description,
    *,
    count: int | None = None,
    num_examples: int = 6,
    leave_out: Collection[int] = (),
) -> list[AttributeExplanation]:
    """Explains the attributes of an image by other images, the strongest attribute first.

    Strong is what sets the image apart: a bit that all images have says nothing of one of them,
    however high their scores are.

    Args:
        index: The index that examples come from, of at least one image.
        description: Of the image, as `index.describe` gives it.
        count: How many attributes; None for all.
        num_examples: Images of each side, at least 1.
        leave_out: Ids of images that are no examples, as the image itself.

    Raises:
        ValueError: If an argument is impossible or the index is empty.
    """
    if (count is not None and count < 1) or num_examples < 1:
        raise ValueError(
            f"`count` and `num_examples` must be at least 1. Received: {count} and {num_examples}"
        )
    if not len(index):
        raise ValueError(
            f"An index must have an image that explains. Received: {index.store.folder}, empty"
        )
    means, deviations = _spread(index)
    side = np.where(description.scores > 0, 1, -1)
    strengths = side * (description.scores - means) / deviations
    chosen = np.argsort(-strengths, kind="stable")[:count]
    near, far = _find_extremes(index, chosen, side[chosen], num_examples, leave_out)
    images = index.store.images(index.ids[np.unique([near, far])])
    shares = [np.mean(index.codes[:, bit // 8] >> (7 - bit % 8) & 1) for bit in chosen.tolist()]

    def look_up(rows: np.ndarray) -> list[IndexedImage]:
        ids = index.ids[rows].tolist()
        return [images[one] for one in ids if one in images and one not in leave_out]

    return [
        AttributeExplanation(
            bit=int(bit),
            is_set=bool(description.scores[bit] > 0),
            score=float(description.scores[bit]),
            strength=float(strengths[bit]),
            share=float(shares[place]),
            examples=look_up(near[place])[:num_examples],
            opposites=look_up(far[place])[:num_examples],
        )
        for place, bit in enumerate(chosen)
    ]


def _spread(index: ImageIndex) -> tuple[np.ndarray, np.ndarray]:
    """Gives mean and standard deviation of the scores of each bit, float64 `[num_attributes]`."""
    sums = np.zeros((2, index.num_attributes))
    for start in range(0, len(index), _CHUNK):
        scores = index.scores(slice(start, start + _CHUNK)).astype(np.float64)
        sums += [scores.sum(axis=0), np.square(scores).sum(axis=0)]
    means, squares = sums / len(index)
    deviations = np.sqrt(np.maximum(squares - np.square(means), 0))
    return means, np.maximum(deviations, 1e-6)


def _find_extremes(
    index: ImageIndex, bits: np.ndarray, side: np.ndarray, count: int, leave_out: Collection[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the rows farthest on each bit's side and on the other, int64 `[bits, found]` each."""
    count = min(count + len(leave_out), len(index))
    best_rows = np.zeros((0, len(bits)), np.int64)
    best = np.zeros((0, len(bits)), np.float32)
    for start in range(0, len(index), _CHUNK):
        scores = index.scores(slice(start, start + _CHUNK))[:, bits] * side
        rows = np.broadcast_to(start + np.arange(len(scores))[:, None], scores.shape)
        best, best_rows = np.concatenate([best, scores]), np.concatenate([best_rows, rows])
        order = np.argsort(-best, axis=0, kind="stable")
        # [both ends, bits]; where they overlap, an image is kept twice and shown once a side.
        ends = np.concatenate([order[:count], order[-count:]]) if len(order) > 2 * count else order
        best = np.take_along_axis(best, ends, axis=0)
        best_rows = np.take_along_axis(best_rows, ends, axis=0)
    return best_rows[:count].T, best_rows[::-1][:count].T
