"""Images of an index that are like no others."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_ctxattr.search.images import ImageIndex
from keras_ctxattr.search.likeness import Progress, nearest_others, unit_vectors
from keras_ctxattr.search.records import IndexedImage

NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outlier:
    """An image that is like few others.

    Attributes:
        image: The image.
        similarity: Mean cosine with its nearest 10, -1 to 1.
        nearest: The image that is most like it.
    """

    image: IndexedImage
    similarity: float
    nearest: IndexedImage


def find_outliers(
    index: ImageIndex, *, count: int = 20, progress: Progress | None = None
) -> list[Outlier]:
    """Gives the images that are least like their nearest 10, the least like first.

    All are compared with all, by their features; in an index without vectors by their scores.

    Args:
        index: The index, of at least two images.
        count: How many, at least 1.
        progress: Called with (images compared, all of them).

    Raises:
        ValueError: If `count` is less than 1, or there is nothing to compare with.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: {count}")
    if len(index) < 2:
        raise ValueError(
            "An index must have at least 2 images that can be compared; add photographs. Received: "
            f"{len(index)} in {index.store.folder}"
        )
    num_neighbours = min(NEIGHBOURS, len(index) - 1)
    rows, cosines = nearest_others(unit_vectors(index), num_neighbours, progress)
    means = cosines.mean(axis=1)
    chosen = np.argsort(means, kind="stable")[:count]
    images = index.store.images(index.ids[np.concatenate([chosen, rows[chosen, 0]])])
    found = []
    for row in chosen.tolist():
        image, nearest = (images.get(int(index.ids[one])) for one in (row, rows[row, 0]))
        if image is not None and nearest is not None:  # else removed in the meantime
            found.append(Outlier(image=image, similarity=float(means[row]), nearest=nearest))
    return found
