"""The whole way of mining, from photographs to ranked constellations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.tasks.mining.dense import DenseFeatures, extract_dense
from keras_ctxattr.tasks.mining.describing import DenseDescriber
from keras_ctxattr.tasks.mining.lattices import MAX_ASPECT, Lattice
from keras_ctxattr.tasks.mining.matching import (
    MIN_INDEXED,
    Matches,
    build_index,
    match_by_index,
    match_exactly,
)
from keras_ctxattr.tasks.mining.objects import (
    Constellations,
    sample_constellations,
    verify_matches,
)

Progress = Callable[[int, int | None], None]
Reporter = Callable[[str], Progress]

_SEARCHES = ("exact", "quantised", "auto")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiningSettings:
    """How a collection is mined.

    Attributes:
        num_constellations: Constellations drawn, at least 1; 16 384 in the paper.
        depth: Photographs with the best matches that are verified, at least 1.
        num_pixels: About the area that photographs are scaled to at the finest scale.
        num_dims: Features are projected to so many principal directions.
        whitening: Power of their variances that directions are divided by, 0 to .5.
        search: exact; quantised, which looks patches up in an index, faster in large collections,
            with 72 bytes of memory for each; or auto: exact until there are more vectors to compare
            than `MAX_COMPARED`. Fewer than `MIN_INDEXED` patches are always searched exactly.
        seed: Of all draws.

    Raises:
        ValueError: If a number is impossible, or there is no such search.
    """

    num_constellations: int = 2048
    depth: int = 100
    num_pixels: int = 300_000
    num_dims: int = 256
    whitening: float = 0.25
    search: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("num_constellations", "depth", "num_dims"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}")
        if not 0 <= self.whitening <= 0.5:
            raise ValueError(f"`whitening` must be 0 to .5. Received: {self.whitening}")
        if self.search not in _SEARCHES:
            raise ValueError(f"`search` must be one of {_SEARCHES}. Received: {self.search}")


MAX_COMPARED = 2 * 10**11
"""Vectors compared with vectors, from which the search is quantised: ten minutes or so on two
processors."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Mined:
    """What a collection was found to hold.

    Attributes:
        features: The photographs and their patches.
        found: Constellations with their verified matches.
        search: How they were searched for: exact or quantised.
        num_thin: Photographs that were left out, as their sides differ more than `MAX_ASPECT`
            times.
    """

    features: DenseFeatures
    found: Constellations
    search: str
    num_thin: int = 0


def mine_photographs(
    manifest: Manifest,
    describer: DenseDescriber,
    folder: str | Path,
    settings: MiningSettings | None = None,
    *,
    report: Reporter | None = None,
) -> Mined:
    """Finds what photographs show again and again.

    Constellations of 2 x 2 touching patches are drawn at several scales; for each, the photographs
    in which all four match best, wherever they lie, are verified by whether the matches lie as the
    constellation does.

    Args:
        manifest: Usable photographs, at least 2; those too thin for a constellation are left out.
        describer: What describes their patches.
        folder: Of the features: new, empty, or of the same call, which goes on or takes them.
        settings: `MiningSettings()` if None.
        report: Called with the name of a step; gives a function of (done, total).

    Raises:
        ValueError: If there is only one photograph, or the folder holds something else.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.5.
    """
    chosen = settings or MiningSettings()
    sides = np.stack([manifest.heights, manifest.widths])
    kept = manifest.select(np.flatnonzero(sides.max(axis=0) <= MAX_ASPECT * sides.min(axis=0)))
    if len(kept) < 2:
        raise ValueError(
            f"Mining needs at least 2 photographs whose sides differ at most {MAX_ASPECT} times. "
            f"Received: {len(kept)} of {len(manifest)}"
        )
    tell = report or (lambda name: lambda done, total: None)
    features = extract_dense(
        kept,
        describer,
        folder,
        num_dims=chosen.num_dims,
        whitening=chosen.whitening,
        lattice=Lattice(
            patch_size=describer.patch_size,
            stride=describer.stride,
            num_pixels=max(chosen.num_pixels, (2 * describer.patch_size) ** 2),
        ),
        seed=chosen.seed,
        progress=tell("patches described"),
    )
    images, patches = sample_constellations(features, chosen.num_constellations, chosen.seed)
    queries = features.vectors[patches.ravel()].reshape(len(patches), 4, -1).astype(np.float32)
    is_exact = _is_exact(chosen.search, features, queries)
    matches = _match(features, queries, images, chosen, is_exact, tell)
    found = Constellations(
        images=images, patches=patches, matches=matches, verified=verify_matches(features, matches)
    )
    return Mined(
        features=features,
        found=found,
        search="exact" if is_exact else "quantised",
        num_thin=len(manifest) - len(kept),
    )


def _is_exact(search: str, features: DenseFeatures, queries: np.ndarray) -> bool:
    num_compared = len(features.vectors) * 4 * len(queries)
    is_small = len(features.vectors) < MIN_INDEXED
    return search == "exact" or is_small or (search == "auto" and num_compared <= MAX_COMPARED)


def _match(
    features: DenseFeatures,
    queries: np.ndarray,
    owners: np.ndarray,
    settings: MiningSettings,
    is_exact: bool,
    tell: Reporter,
) -> Matches:
    if is_exact:
        return match_exactly(
            features, queries, owners, settings.depth, progress=tell("photographs searched")
        )
    index: Any = build_index(features, seed=settings.seed, progress=tell("patches indexed"))
    return match_by_index(
        features, index, queries, owners, settings.depth, progress=tell("constellations searched")
    )
