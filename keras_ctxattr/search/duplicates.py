"""Images of an index that are copies of each other: the same bytes, or resized or recompressed."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_ctxattr.search.images import ImageIndex
from keras_ctxattr.search.likeness import (
    MIN_WHITENED,
    Progress,
    find_pairs,
    unit_vectors,
    whiten,
)
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.search.thumbnails import confirm_copies

SIMILARITY = 0.5
"""Default cosine of whitened features from which two images may be copies."""

FEW_SIMILARITY = 0.97
"""The same where there are too few images to whiten: different photographs seldom reach it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Images that are copies of each other.

    Attributes:
        images: At least two, the one of the most pixels first.
        is_equal: Whether all have the same bytes.
        similarity: The smallest cosine by which two of them were joined; 1 for equal bytes.
    """

    images: list[IndexedImage]
    is_equal: bool
    similarity: float


def find_duplicates(
    index: ImageIndex,
    *,
    similarity: float | None = None,
    distance: int | None = None,
    confirm: bool = True,
    progress: Progress | None = None,
) -> list[DuplicateGroup]:
    """Finds images of equal bytes, and near duplicates: resized, recompressed copies.

    All pairs are compared by features less what photographs of this index have in common
    (`whiten`); those that are alike are read again, and their thumbnails compared. Images that are
    alike through others are in one group. Time grows with the square of the number of images;
    memory is that of their features in float32.

    Args:
        index: The index; one without vectors compares attribute scores, which takes longer.
        similarity: Smallest cosine of near duplicates; 0.5 if None (0.97 under 16 images). 2 finds
            equal bytes only.
        distance: In how many bits codes of near duplicates may differ; None for any number.
        confirm: Whether thumbnails are compared. Without that, images that are merely much alike
            count as copies; what cannot be read counts as it is.
        progress: Called with (images done, all of them), for comparing, then for reading.

    Returns:
        Groups, the largest first, then the most alike.

    Raises:
        ValueError: If `distance` is negative, or `similarity` no number.
    """
    _check(similarity, distance)
    rows, images = _distinct(index)
    vectors = whiten(unit_vectors(index)[rows]) if len(rows) else np.empty((0, 1), np.float32)
    if similarity is None:
        similarity = SIMILARITY if len(rows) >= MIN_WHITENED else FEW_SIMILARITY
    pairs, cosines = find_pairs(vectors, similarity, progress)
    if distance is not None:
        codes = index.codes[rows]
        apart = np.bitwise_count(codes[pairs[:, 0]] ^ codes[pairs[:, 1]]).sum(axis=1)
        pairs, cosines = pairs[apart <= distance], cosines[apart <= distance]
    if confirm:
        kept = confirm_copies([found[0] for found in images], pairs, progress)
        pairs, cosines = pairs[kept], cosines[kept]
    return _group(images, pairs, cosines)


def _check(similarity: float | None, distance: int | None) -> None:
    if distance is not None and distance < 0:
        raise ValueError(f"`distance` must be at least 0 bits, or None. Received: {distance}")
    if similarity is not None and not similarity >= -1:
        raise ValueError(f"`similarity` must be -1 to 1, or 2 for none. Received: {similarity}")


def _distinct(index: ImageIndex) -> tuple[np.ndarray, list[list[IndexedImage]]]:
    """Gives a row for each different content, int64 `[contents]`, and the images that have it."""
    members: dict[str, list[IndexedImage]] = {}
    rows: list[int] = []
    known = {image.image_id: image for image in index.store.all_images()}
    for row, image_id in enumerate(index.ids.tolist()):
        image = known.get(image_id)
        if image is None:  # removed in the meantime
            continue
        if image.digest not in members:
            rows.append(row)
        members.setdefault(image.digest, []).append(image)
    return np.array(rows, np.int64), list(members.values())


def _group(
    contents: list[list[IndexedImage]], pairs: np.ndarray, cosines: np.ndarray
) -> list[DuplicateGroup]:
    """Joins pairs to groups, with all images of each content."""
    count = len(contents)
    if not count:
        return []
    joined = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    num_groups, labels = connected_components(joined, directed=False)
    lowest = np.ones(num_groups)
    np.minimum.at(lowest, labels[pairs[:, 0]], cosines)
    sizes = np.bincount(labels, minlength=num_groups)
    members: dict[int, list[IndexedImage]] = {}
    for label, images in zip(labels.tolist(), contents, strict=True):
        if sizes[label] > 1 or len(images) > 1:
            members.setdefault(label, []).extend(images)
    groups = [
        DuplicateGroup(
            images=sorted(images, key=lambda one: (-one.height * one.width, one.image_id)),
            is_equal=bool(sizes[label] == 1),
            similarity=float(lowest[label]),
        )
        for label, images in members.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.images), -group.similarity))
