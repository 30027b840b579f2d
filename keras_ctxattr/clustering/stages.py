"""The stages of discriminative clustering, on halves that take turns."""

import dataclasses
from typing import Any

import numpy as np

from keras_ctxattr.clustering.detectors import (
    best_cluster,
    fire,
    own_scores,
    train_comparable_detectors,
    train_detectors,
)
from keras_ctxattr.clustering.members import Members, flatten, split_in_halves
from keras_ctxattr.clustering.merging import merge_clusters
from keras_ctxattr.clustering.rows import Rows
from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.clustering.svm.solver import decide


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halves:
    """What is learnt from, divided in two.

    Attributes:
        discovery: the halves of the discovery samples.
        world: the halves of the natural world.
        validation: samples that nothing is learnt from.
    """

    discovery: list[Rows]
    world: list[Rows]
    validation: Rows

    @property
    def whole_world(self) -> Rows:
        """Both halves of the natural world."""
        numbers = np.sort(np.concatenate([half.numbers for half in self.world]))
        return dataclasses.replace(self.world[0], numbers=numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Firing:
    """What the classifiers of one half fire on in the other.

    Attributes:
        kept: int64 `[kept]`: numbers of the clusters that fire often enough.
        members: for each of those, the places it fires on most in the other half.
        scores: float32 `[kept]`: mean of the highest scores there.
    """

    kept: np.ndarray
    members: Members
    scores: np.ndarray


def divide(
    rows: Rows,
    natural_world: Any,
    groups: np.ndarray,
    validation_share: float,
    generator: np.random.Generator,
    *,
    max_world: int | None = None,
) -> Halves:
    """Divides samples at random; those of one group stay together.

    Args:
        rows: the discovery samples.
        natural_world: float `[m, num_features]`, or None: half of `rows` takes its part.
        groups: int `[rows]`: the group of each discovery sample.
        validation_share: share of the groups that is set aside.
        generator: where the draws come from.
        max_world: samples that a half of the natural world has at most; None: any number.

    Raises:
        ValueError: if a part would be empty.
    """
    order = generator.permutation(np.unique(groups))
    is_held = np.isin(groups, order[: round(validation_share * len(order))])
    learnt = np.flatnonzero(~is_held)
    if natural_world is None:
        ours, theirs = split_in_halves(groups[learnt], generator)
        world, world_groups = rows.select(learnt[theirs]), groups[learnt[theirs]]
        learnt = learnt[ours]
    else:
        world_groups = np.arange(len(natural_world))
        world = dataclasses.replace(rows, table=natural_world, numbers=world_groups)
    parts = [rows.select(learnt[half]) for half in split_in_halves(groups[learnt], generator)]
    worlds = [world.select(half) for half in split_in_halves(world_groups, generator)]
    if not all(len(part) for part in (*parts, *worlds)):
        raise ValueError(
            "There must be enough samples (and groups) for two halves of the discovery set and two "
            f"of the natural world: add some. Received: n_samples={len(rows)}"
        )
    validation = rows.select(np.flatnonzero(is_held))
    if max_world is not None:
        worlds = [
            half.select(np.sort(generator.permutation(len(half))[:max_world])) for half in worlds
        ]
    return Halves(discovery=parts, world=worlds, validation=validation)


def fire_across(
    members: Members,
    halves: Halves,
    side: int,
    *,
    num_candidates: int,
    min_firing: int,
    num_members: int,
    threshold: float,
    solver: dict[str, Any],
) -> Firing:
    """Trains classifiers on the members in one half and fires them on the other.

    Args:
        members: places in the half `side`.
        halves: the samples.
        side: 0 or 1.
        num_candidates: highest scores that are looked at.
        min_firing: how many of them must exceed the threshold for a cluster to be kept.
        num_members: how many of them become members.
        threshold: score above which a classifier fires.
        solver: arguments of `fit_linear_svms`.

    Reference:
        Singh, Gupta, Efros 2012, section 3, and its released code.
    """
    if not members:
        return Firing(kept=np.zeros(0, np.int64), members=[], scores=np.zeros(0, np.float32))
    weights = train_detectors(members, halves.discovery[side], halves.world[side], **solver)
    places, scores = fire(weights, halves.discovery[1 - side], num_candidates)
    fires = scores > threshold
    kept = np.flatnonzero(fires.sum(axis=0) >= min_firing)
    best, best_fires = places[:num_members], fires[:num_members]
    return Firing(
        kept=kept,
        members=[best[best_fires[:, number], number] for number in kept],
        scores=scores[:num_members, kept].mean(axis=0),
    )


def grow_across(
    members: Members,
    halves: Halves,
    side: int,
    *,
    min_size: int,
    max_size: int,
    num_scored: int,
    solver: dict[str, Any],
) -> Firing:
    """Gives the samples of the other half that are each cluster's rather than any other's.

    Few members say what a concept looks like at its best, and not how far it reaches. So the
    classifiers of one half share out the samples of the other, each to the highest of its scores,
    and a cluster's new members are those it is surest of (ours, in neither paper).

    Args:
        members: places in the half `side`.
        halves: the samples.
        side: 0 or 1.
        min_size: clusters that get fewer samples are dropped.
        max_size: members that a cluster has at most.
        num_scored: how many of its highest scores a cluster's score is the mean of.
        solver: arguments of `fit_linear_svms`.
    """
    if not members:
        return Firing(kept=np.zeros(0, np.int64), members=[], scores=np.zeros(0, np.float32))
    own, other = halves.discovery[side], halves.discovery[1 - side]
    weights = train_comparable_detectors(members, own, halves.world[side], **solver)
    labels, scores = best_cluster(weights, other)
    ranked = np.lexsort((-scores, labels))
    shares = np.split(ranked, np.cumsum(np.bincount(labels, minlength=len(members)))[:-1])
    kept = np.flatnonzero([len(places) >= min_size for places in shares])
    return Firing(
        kept=kept,
        members=[shares[number][:max_size] for number in kept],
        scores=np.array(
            [scores[shares[number][:num_scored]].mean() for number in kept], np.float32
        ),
    )


def held_out_scores(
    halfway: list[np.ndarray], members: tuple[Members, Members], halves: Halves
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gives what members score where they were not trained on, by the other half's classifier.

    Args:
        halfway: the classifiers trained on each half, float32 `[num_clusters, num_features + 1]`.
        members: places of each cluster's members in each half.
        halves: the samples.

    Returns:
        For each half (float32 `[members]`, the cluster of each).
    """
    found = []
    for side in (0, 1):
        places, ids = flatten(members[1 - side])
        found.append(
            (own_scores(halfway[side], halves.discovery[1 - side].select(places), ids), ids)
        )
    return found


def merge_members(
    members: Members, half: Rows, threshold: float, solver: dict[str, Any]
) -> Members:
    """Merges clusters that fire on each other's members, by classifiers of each against the others.

    A member that two clusters share speaks against neither.

    Args:
        members: places in `half`.
        half: the samples.
        threshold: overlap in [0, 1] above which two clusters are merged.
        solver: arguments of `fit_linear_svms`.

    Reference:
        Huang, Loy, Tang 2016, section 3.1.
    """

    def score_members(clusters: Members) -> MemberScores:
        rows, ids = flatten(clusters)
        unique, places = np.unique(rows, return_inverse=True)
        vectors = half.select(unique).load()
        pairs = np.stack([places, ids], axis=1)
        svms = fit_linear_svms(half.select(rows), ids, vectors, excluded=pairs, **solver)
        return MemberScores(svms.weights, vectors, places)

    return merge_clusters(members, score_members, threshold)


class MemberScores:
    """What members score by the classifiers of some clusters, computed as they are asked for.

    Args:
        weights: float32 `[num_clusters, num_features + 1]`.
        vectors: float32 `[samples, num_features]`.
        places: int `[members]`: the sample that each member is.
    """

    def __init__(self, weights: np.ndarray, vectors: np.ndarray, places: np.ndarray) -> None:
        self._weights, self._vectors, self._places = weights, vectors, places
        self.shape = len(places), len(weights)

    def __getitem__(self, chosen: tuple[slice, slice]) -> np.ndarray:
        members, clusters = chosen
        return decide(self._weights[clusters], self._vectors)[self._places[members]]
