"""Where each patch of a constellation has its best match in other photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from keras_ctxattr.tasks.mining.dense import DenseFeatures

NO_PATCH = -1
"""In place of a match where an approximate search found none in a photograph."""

MIN_INDEXED = 256
"""Patches that an index needs, as many as an entry of a codebook has values."""

_ROWS_PER_LIST = 200  # of an inverted file, about
_BYTES = 64  # of a product-quantised vector
_TRAINED_ROWS = 200_000
_CHUNK = 256  # constellations searched for at a time
_ADDED = 65_536
_BATCH = 64  # photographs whose matches are compared with the best so far

Progress = Callable[[int, int | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """The photographs in which all four patches of a constellation match best.

    Attributes:
        images: int64 `[constellations, depth]`, rows of the manifest, the best first; -1 past the
            end.
        patches: int64 `[constellations, depth, 4]`: rows of the features that match each patch;
            `NO_PATCH` where none is known.
        similarities: Float32 `[constellations, depth]`: sums of the four cosines.
    """

    images: np.ndarray
    patches: np.ndarray
    similarities: np.ndarray

    @classmethod
    def none(cls, count: int, depth: int) -> Matches:
        """Gives as many places for matches, none of them taken."""
        return cls(
            images=np.full((count, depth), -1, np.int64),
            patches=np.full((count, depth, 4), NO_PATCH, np.int64),
            similarities=np.full((count, depth), -np.inf, np.float32),
        )

    def merge(self, other: Matches) -> Matches:
        """Gives the best of both, as deep as this one; of equal ones the first photograph."""
        depth = self.images.shape[1]
        images = np.concatenate([self.images, other.images], axis=1)
        patches = np.concatenate([self.patches, other.patches], axis=1)
        found = np.concatenate([self.similarities, other.similarities], axis=1)
        order = np.lexsort((images, -found), axis=1)[:, :depth]
        return Matches(
            images=np.take_along_axis(images, order, axis=1),
            patches=np.take_along_axis(patches, order[..., None], axis=1),
            similarities=np.take_along_axis(found, order, axis=1),
        )


def match_exactly(
    features: DenseFeatures,
    queries: np.ndarray,
    owners: np.ndarray,
    depth: int = 100,
    *,
    progress: Progress | None = None,
) -> Matches:
    """Compares each patch with all patches of every photograph.

    faiss gives the nearest rows of all, of which a photograph may have hundreds or none; here the
    best of each photograph is wanted. It takes one matrix product a photograph, whose features are
    read from the disk once: memory does not grow with the number of photographs.

    Args:
        features: All photographs.
        queries: Float32 `[constellations, 4, num_dims]`, vectors of length 1.
        owners: int64 `[constellations]`: photograph of each, in which it is not looked for; -1 for
            none.
        depth: Photographs of each, at least 1.
        progress: Called with (photographs searched, all of them).

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    _check_queries(features, queries, owners, depth)
    count, num_images = len(queries), len(features.manifest)
    flat = np.ascontiguousarray(queries.reshape(-1, features.num_dims), np.float32)
    best = Matches.none(count, _possible(depth, num_images))
    for start in range(0, num_images, _BATCH):
        images = np.arange(start, min(start + _BATCH, num_images))
        patches = np.empty((count, len(images), 4), np.int64)
        sums = np.empty((count, len(images)), np.float32)
        for place, image in enumerate(images):
            products = flat @ features.vectors_of(int(image)).T
            nearest = products.argmax(axis=1)
            cosines = products[np.arange(len(flat)), nearest]
            patches[:, place] = nearest.reshape(count, 4) + features.starts[image]
            sums[:, place] = cosines.reshape(count, 4).sum(axis=1)
            sums[owners == image, place] = -np.inf
            if progress is not None:
                progress(int(image) + 1, num_images)
        numbers = np.broadcast_to(images, (count, len(images)))
        best = best.merge(Matches(images=numbers, patches=patches, similarities=sums))
    return _drop_impossible(best)


def build_index(
    features: DenseFeatures,
    *,
    num_probes: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> Any:
    """Gives a faiss index of all patches, product-quantised: 64 bytes each and 8 for its number.

    It is faster than the exact search in many photographs, and is all in memory.

    Args:
        features: All photographs.
        num_probes: Lists, of about 200 patches each, that a search looks through.
        seed: Of the choice of patches from which it learns.
        progress: Called with (patches added, all of them).

    Raises:
        ValueError: If there are fewer than `MIN_INDEXED` patches.
    """
    count, dims = features.vectors.shape
    if count < MIN_INDEXED:
        raise ValueError(
            f"An index needs at least {MIN_INDEXED} patches; search exactly. Received: {count}"
        )
    num_lists = int(np.clip(count // _ROWS_PER_LIST, 1, 65_536))
    num_bytes = max(b for b in range(1, min(_BYTES, dims) + 1) if dims % b == 0)
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dims), dims, num_lists, num_bytes, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = index.pq.cp.seed = seed
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    # Its 64 codebooks of 256 take minutes to learn from 256 patches for each entry, and are no
    # better.
    index.pq.cp.max_points_per_centroid = 64
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(count)[:_TRAINED_ROWS])
    index.nprobe = num_probes
    index.train(np.asarray(features.vectors[rows], np.float32))
    for start in range(0, count, _ADDED):
        stop = min(start + _ADDED, count)
        index.add(features.vectors[start:stop].astype(np.float32))
        if progress is not None:
            progress(stop, count)
    return index


def match_by_index(
    features: DenseFeatures,
    index: Any,
    queries: np.ndarray,
    owners: np.ndarray,
    depth: int = 100,
    *,
    num_nearest: int = 8192,
    progress: Progress | None = None,
) -> Matches:
    """Looks up the nearest patches of each patch, and puts them together by photograph.

    A photograph that some of the four patches did not find counts as if it had the last one found.
    Similarities are those of quantised vectors.

    Args:
        features: All photographs; only where patches begin and end is read.
        index: As `build_index` gives it.
        queries: As for `match_exactly`.
        owners: Likewise.
        depth: Likewise.
        num_nearest: Patches looked up for each: the more, the more photographs are known.
        progress: Called with (constellations searched for, all of them).
    """
    _check_queries(features, queries, owners, depth)
    num_images, count = len(features.manifest), len(queries)
    parts = []
    for start in range(0, count, _CHUNK):
        chunk = np.ascontiguousarray(queries[start : start + _CHUNK], np.float32)
        found, rows = index.search(chunk.reshape(-1, features.num_dims), num_nearest)
        shape = (len(chunk), 4, num_nearest)
        grouped = zip(
            found.reshape(shape), rows.reshape(shape), owners[start : start + _CHUNK], strict=True
        )
        parts += [
            _group(cosines, numbers, int(owner), features.starts, _possible(depth, num_images))
            for cosines, numbers, owner in grouped
        ]
        if progress is not None:
            progress(min(start + _CHUNK, count), count)
    return _drop_impossible(
        Matches(
            images=np.stack([part[0] for part in parts]),
            patches=np.stack([part[1] for part in parts]),
            similarities=np.stack([part[2] for part in parts]),
        )
    )


def _group(
    cosines: np.ndarray, rows: np.ndarray, owner: int, starts: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts the patches found for one constellation, `[4, nearest]`, together by photograph."""
    num_images = len(starts) - 1
    best = np.empty((4, num_images), np.float32)
    patches = np.full((num_images, 4), NO_PATCH, np.int64)
    for corner in range(4):
        known = rows[corner] >= 0
        numbers, found = rows[corner][known], cosines[corner][known]
        best[corner] = found[-1] if len(found) else 0.0
        images = np.searchsorted(starts, numbers, side="right") - 1
        # The nearest come first: in reverse, the last to be written is the nearest.
        best[corner, images[::-1]] = found[::-1]
        patches[images[::-1], corner] = numbers[::-1]
    sums = best.sum(axis=0)
    if owner >= 0:
        sums[owner] = -np.inf
    sums[(patches == NO_PATCH).all(axis=1)] = -np.inf
    order = np.argsort(-sums, kind="stable")[:depth]
    return order, patches[order], sums[order]


def _possible(depth: int, num_images: int) -> int:
    """Gives how many photographs can match: not a constellation's own."""
    return max(1, min(depth, num_images - 1))


def _drop_impossible(matches: Matches) -> Matches:
    """Takes out the photograph of the constellation itself, which is last."""
    is_none = np.isneginf(matches.similarities)
    return Matches(
        images=np.where(is_none, -1, matches.images),
        patches=np.where(is_none[..., None], NO_PATCH, matches.patches),
        similarities=matches.similarities,
    )


def _check_queries(
    features: DenseFeatures, queries: np.ndarray, owners: np.ndarray, depth: int
) -> None:
    expected = (len(owners), 4, features.num_dims)
    if queries.shape != expected or depth < 1:
        raise ValueError(
            f"`queries` must be [constellations, 4, {features.num_dims}], an owner for each, and "
            f"`depth` at least 1. Received: {queries.shape}, {len(owners)} owners, depth={depth}"
        )
