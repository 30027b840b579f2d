"""From matches to objects: which constellations come again in one layout, and which are equal."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from keras_ctxattr.tasks.detection.metrics import box_overlaps
from keras_ctxattr.tasks.mining.dense import DenseFeatures
from keras_ctxattr.tasks.mining.geometry import verify_constellations
from keras_ctxattr.tasks.mining.matching import NO_PATCH, Matches

OVERLAP = 0.4
"""Intersection over union from which two regions of a photograph count as the same."""

SHARED = 1 / 4
"""Share of a constellation's regions that another, ranked higher, has: above, it is the same."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Constellations:
    """Constellations of a collection, with what matches them.

    Attributes:
        images: int64 `[constellations]`: the photograph of each.
        patches: int64 `[constellations, 4]`: rows of the features.
        matches: Photographs that match.
        verified: bool `[constellations, depth]`: which of them have the layout.
    """

    images: np.ndarray
    patches: np.ndarray
    matches: Matches
    verified: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """How many matches of each have the layout, int64 `[constellations]`."""
        return self.verified.sum(axis=1)

    def ranked(self) -> np.ndarray:
        """Gives constellations by falling number of verified matches, int64 `[constellations]`.

        Of equal ones, the one with the higher mean similarity of the verified comes first.
        """
        found = np.where(self.verified, self.matches.similarities, 0).sum(axis=1)
        return np.lexsort((-found / np.maximum(self.counts, 1), -self.counts))

    def verified_images(self, number: int, count: int | None = None) -> np.ndarray:
        """Gives the photographs of a constellation's first verified matches, the best first."""
        return self.matches.images[number][self.verified[number]][:count]


def sample_constellations(
    features: DenseFeatures, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws constellations: a photograph, one of its scales, a place; none twice.

    Args:
        features: All photographs.
        count: How many; fewer where there are no more.
        seed: Of the draws.

    Returns:
        (int64 `[n]` photographs, int64 `[n, 4]` rows of the features), by photograph.

    Raises:
        ValueError: If none is asked for.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: {count}")
    generator = np.random.default_rng(seed)
    sizes = list(zip(features.manifest.heights, features.manifest.widths, strict=True))
    places = [features.lattice.constellations(int(h), int(w)) for h, w in sizes]
    total = sum(len(scale) for scales in places for scale in scales)
    taken: set[tuple[int, int, int]] = set()
    while len(taken) < min(count, total):
        image = int(generator.integers(len(places)))
        scale = int(generator.integers(len(places[image])))
        taken.add((image, scale, int(generator.integers(len(places[image][scale])))))
    chosen = sorted(taken)
    images = np.array([image for image, _, _ in chosen], np.int64)
    patches = np.stack([places[image][scale][place] for image, scale, place in chosen])
    return images, patches + features.starts[images][:, None]


def verify_matches(features: DenseFeatures, matches: Matches) -> np.ndarray:
    """Tells which matches have the layout of a constellation, bool `[constellations, depth]`.

    Args:
        features: All photographs.
        matches: Of constellations.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    verified = np.zeros(matches.images.shape, bool)
    flat, images = verified.reshape(-1), matches.images.reshape(-1)
    patches = matches.patches.reshape(-1, 4)
    order = np.argsort(images, kind="stable")
    bounds = np.searchsorted(images[order], np.arange(len(features.manifest) + 1))
    for image, (low, high) in enumerate(itertools.pairwise(bounds)):
        places = order[low:high]
        places = places[(patches[places] != NO_PATCH).all(axis=1)]
        if len(places):
            boxes = features.boxes_of(image)[patches[places] - features.starts[image]]
            flat[places] = verify_constellations(*_squares(boxes))
    return verified


def verified_by_chance(features: DenseFeatures, matches: Matches, seed: int = 0) -> np.ndarray:
    """Tells which matches would have the layout were patches drawn anywhere in the photographs.

    Each matched patch is replaced by any of the same photograph.

    Args:
        features: All photographs.
        matches: Of constellations.
        seed: Of the draws.

    Returns:
        bool `[constellations, depth]`.
    """
    generator = np.random.default_rng(seed)
    starts, counts = features.starts[:-1], np.diff(features.starts)
    shares = generator.random(matches.patches.shape)
    images = matches.images[..., None]
    drawn = starts[images] + (shares * counts[images]).astype(np.int64)
    patches = np.where(images < 0, NO_PATCH, drawn)
    return verify_matches(features, dataclasses.replace(matches, patches=patches))


def drop_duplicates(
    features: DenseFeatures,
    found: Constellations,
    *,
    limit: int | None = None,
    min_verified: int = 1,
) -> np.ndarray:
    """Gives the constellations that are not an object found before, the highest-ranked first.

    A constellation's regions are the boxes around its own patches and those of its verified
    matches. It is dropped if more than `SHARED` of them lie where regions of one that is kept do,
    with an intersection over union of at least `OVERLAP`. Both were chosen by eye: the paper leaves
    equal objects in, and names an earlier procedure for taking them out.

    Args:
        features: All photographs.
        found: Verified constellations.
        limit: Stops once so many are kept; None for all.
        min_verified: Verified matches that one must have.

    Returns:
        int64 `[kept]`, numbers of constellations.
    """
    kept: list[int] = []
    regions: dict[int, tuple[list[np.ndarray], list[int]]] = {}  # by photograph: boxes and owners
    for number in found.ranked():
        if found.counts[number] < min_verified or (limit is not None and len(kept) >= limit):
            break
        images, boxes = constellation_regions(features, found, int(number))
        shared: dict[int, int] = {}
        for image, box in zip(images.tolist(), boxes, strict=True):
            for owner in _owners_there(regions.get(image), box):
                shared[owner] = shared.get(owner, 0) + 1
        if max(shared.values(), default=0) > SHARED * len(images):
            continue
        for image, box in zip(images.tolist(), boxes, strict=True):
            known, owners = regions.setdefault(image, ([], []))
            known.append(box)
            owners.append(len(kept))
        kept.append(int(number))
    return np.array(kept, np.int64)


def constellation_patches(
    features: DenseFeatures, found: Constellations, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives a constellation's own patches and those of its verified matches.

    Returns:
        (int64 `[1 + verified]` photographs, its own first; float32 `[1 + verified, 4, 4]` boxes in
        their pixels: upper left, upper right, lower left and lower right patch).
    """
    is_verified = found.verified[number]
    images = np.concatenate([found.images[[number]], found.matches.images[number][is_verified]])
    patches = np.concatenate([found.patches[[number]], found.matches.patches[number][is_verified]])
    boxes = [
        features.boxes_of(int(image))[rows - features.starts[image]]
        for image, rows in zip(images, patches, strict=True)
    ]
    return images, np.stack(boxes)


def constellation_regions(
    features: DenseFeatures, found: Constellations, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the boxes around what `constellation_patches` gives, `[1 + verified, 4]`."""
    images, boxes = constellation_patches(features, found, number)
    return images, np.concatenate([boxes[..., :2].min(axis=1), boxes[..., 2:].max(axis=1)], axis=1)


def _squares(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives (centres, sides) of patches `[..., 4]`."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres, (boxes[..., 2:] - boxes[..., :2]).mean(axis=-1)


def _owners_there(known: tuple[list[np.ndarray], list[int]] | None, box: np.ndarray) -> set[int]:
    """Gives the owners of the regions that lie where a box does."""
    if known is None:
        return set()
    overlaps = box_overlaps(box[None], np.stack(known[0]))[0]
    return {owner for owner, share in zip(known[1], overlaps, strict=True) if share >= OVERLAP}
