"""The proposals of all images of a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Proposals:
    """Boxes that may hold an object, image after image.

    Attributes:
        boxes: Float32 `[total, 4]`, (left, top, right, bottom) of the pixels' edges, counted from
            0, in the upright image; of each image the likeliest first.
        offsets: Int64 `[images + 1]`: those of image i are `boxes[offsets[i]:offsets[i + 1]]`.
        reasons: For each image why it has none, one line; "" where it has been searched.

    Raises:
        ValueError: If they do not fit.

    Example:
        >>> import numpy as np
        >>> from keras_ctxattr.tasks.detection.proposals import Proposals
        >>> found = Proposals.stack([np.array([[0, 0, 8, 8], [2, 2, 4, 4]]), np.empty((0, 4))])
        >>> len(found), found.of(0).shape, found.of(1).shape, found.sample_top(1).boxes.tolist()
        (2, (2, 4), (0, 4), [[0.0, 0.0, 8.0, 8.0]])
    """

    boxes: np.ndarray
    offsets: np.ndarray
    reasons: tuple[str, ...]

    def __post_init__(self) -> None:
        """Brings the columns to their types and checks that they fit."""
        boxes, offsets = np.asarray(self.boxes, np.float32), np.asarray(self.offsets, np.int64)
        is_sorted = offsets.ndim == 1 and len(offsets) > 0 and (np.diff(offsets) >= 0).all()
        is_whole = is_sorted and offsets[0] == 0 and offsets[-1] == len(boxes)
        if boxes.shape != (len(boxes), 4) or not is_whole or len(self) != len(self.reasons):
            raise ValueError(
                "`boxes` must be [total, 4], `offsets` must rise from 0 to the total, an image's "
                "end after the other, and every image must have a reason or an empty one. "
                f"Received: boxes {list(boxes.shape)}, offsets {list(offsets.shape)}, "
                f"{len(self.reasons)} reasons"
            )
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def stack(cls, boxes: Sequence[np.ndarray], reasons: Sequence[str] | None = None) -> Proposals:
        """Lays the boxes of images together.

        Args:
            boxes: Float `[n, 4]` of each image.
            reasons: As the class has them; none by default.
        """
        parts = [np.reshape(one, (-1, 4)).astype(np.float32) for one in boxes]
        return cls(
            boxes=np.concatenate([np.empty((0, 4), np.float32), *parts]),
            offsets=np.cumsum([0, *map(len, parts)]),
            reasons=tuple(reasons) if reasons is not None else ("",) * len(parts),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, row: int) -> np.ndarray:
        """Gives the boxes of one image, float32 `[n, 4]`, 0 <= row < images."""
        if not 0 <= row < len(self):
            raise IndexError(f"`row` must be 0 to {len(self) - 1}. Received: {row}")
        return self.boxes[self.offsets[row] : self.offsets[row + 1]]

    def sample_top(self, count: int) -> Proposals:
        """Gives the first boxes of each image, at most `count` of them."""
        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: {count}")
        return Proposals.stack([self.of(row)[:count] for row in range(len(self))], self.reasons)
