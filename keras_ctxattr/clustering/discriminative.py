"""Discriminative clustering: visual concepts that classifiers find again in images not seen."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_ctxattr.clustering.checks import check_groups, check_parameters, check_world
from keras_ctxattr.clustering.detectors import (
    best_cluster,
    reproducibility,
    train_comparable_detectors,
    train_detectors,
)
from keras_ctxattr.clustering.members import Members, seed_clusters
from keras_ctxattr.clustering.merging import lowest_scores
from keras_ctxattr.clustering.resuming import StageFolder, identify
from keras_ctxattr.clustering.rows import Rows, measure
from keras_ctxattr.clustering.stages import (
    Firing,
    Halves,
    divide,
    fire_across,
    grow_across,
    held_out_scores,
    merge_members,
)
from keras_ctxattr.data.shards import ShardedArray

Report = Callable[[dict[str, Any]], None]

_SHARE_OF_MEMBERS = 0.75  # that a sample in a grown cluster scores as high as


class DiscriminativeClustering(ClusterMixin, BaseEstimator):
    """Finds clusters that a linear classifier tells from everything else.

    k-means makes many small seeds in one half of the discovery samples. A linear SVM of each,
    against one half of the natural world, fires on the other half; what it fires on most are the
    new members. The halves change places, several times. Clusters that fire on each other's members
    are merged. A sample is in the cluster whose members' scores it exceeds most; most are in none.

    Where the natural world holds the same concepts as the discovery set, as a random half of the
    data does, members have negatives like themselves and no score is near the margin. So a
    classifier's threshold is the score that its members reach where they were not trained on (ours;
    the paper does not say what a cluster's samples are).

    Features are centred and divided by one number, to a mean squared length of 1: whatever they are
    and however many, SVMs then balance weights and losses alike. It gives `C` a scale, which the
    papers leave to their features, and it matters: at unit variance a feature, the losses rule, a
    classifier singles out its five members, and those of the two halves agree on little else.

    Two things more than the papers', off unless they are asked for, make purer clusters of more
    samples. `normalize` divides each centred sample by its own length instead, so that samples near
    the mean count as much as others. `num_growths` lets clusters grow once they are merged: the
    classifiers of one half share out the other's samples, and up to `grown_size` of them become a
    cluster's members. In grown clusters a sample belongs to the highest score, if it scores as much
    as three quarters of the members do where their classifiers were not trained on them.

    Samples are read in chunks and never all in memory (but by full seeding, where they fit): what
    `fit` takes grows with the number of clusters times that of features and with `cache_bytes`, and
    with the samples by some 100 bytes each. `keras_ctxattr.clustering.memory.peak_memory_bytes` is
    the formula. Time grows with samples times clusters: of very many samples, raise
    `samples_per_cluster` with them and set `max_negatives`.

    Args:
        samples_per_cluster: samples of a half for each seed, at least 1.
        min_size: seeds of fewer members are dropped, at least 1.
        max_size: members of a seed that are kept, those nearest to the centre.
        C: weight of a sample's loss in an SVM.
        num_iterations: trainings, each followed by a change of halves (4 or 5).
        num_candidates: highest scores on the other half that are looked at.
        min_firing: how many of them must fire, or the cluster is dropped.
        num_members: how many of them become the new members.
        firing_threshold: score above which an SVM fires; the released code has -1, the margin.
        merge_threshold: overlap in [0, 1] above which two clusters are merged.
        num_growths: how often merged clusters grow, each followed by a change of halves; 0 leaves
            them the members that fire most, as in the papers.
        grown_size: members in a half that a cluster grows to at most. They share the weight in an
            SVM that `num_members` have.
        decision_threshold: how far above the members' score a sample must be to be in its best
            cluster; below 0 more samples are. Scores of grown clusters have a unit: half the mean
            distance between the members and the natural world.
        normalize: whether each centred sample is divided by its own length.
        validation_share: share of the discovery samples that nothing is learnt from, in [0, 1), on
            which `firing_precision_` is measured.
        max_negatives: samples of each half of the natural world that SVMs are trained against at
            most, drawn at random; None: all. The cost of training grows with them.
        seeding: `"full"`: seeds by k-means of a half's samples, in memory; `"minibatch"`: of
            mini-batches of them, in little memory; `"auto"`: the former where a half's samples, as
            float32, take no more than `cache_bytes`.
        cache_bytes: memory for negatives, see `fit_linear_svms`.
        devices: logical devices of TensorFlow that SVMs are divided over, see `fit_linear_svms`;
            they change no result.
        random_state: seed of halves and seeds.

    Attributes:
        labels_: int32 `[n]`: the best cluster of each sample; -1 where none exceeds the threshold.
        classifiers_: float32 `[num_clusters, num_features + 1]`, the bias last; 0 is the threshold.
            Of the features as they were given, or with `normalize` of those less `mean_`, at unit
            length. Ranked by `scores_`.
        mean_: float32 `[num_features]`.
        members_: for each cluster the rows that its classifier was trained on, int64, best first.
        scores_: float32 `[num_clusters]`: discriminativeness, the mean score of the `num_members`
            highest on the half that the classifier was not trained on.
        firing_precision_: share of the highest `num_members` validation samples on which the
            classifiers of both halves agree, mean over the clusters; NaN where there are too few.
        num_empty_: how many clusters were dropped at the end because no sample was in them.
        validation_rows_: int64: the rows that nothing was learnt from, ascending.
        history_: list of dicts, one a training: clusters trained, kept, and mean held-out score.
        n_features_in_: number of features.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> centres = 5 * generator.standard_normal((4, 8))
        >>> vectors = np.repeat(centres, 60, axis=0) + generator.standard_normal((240, 8))
        >>> clustering = DiscriminativeClustering().fit(vectors)
        >>> clustering.labels_.shape
        (240,)

    Reference:
        Singh, Gupta, Efros 2012, section 3 (and its released code for the numbers); Huang, Loy,
        Tang 2016, section 3.1, for the merging.
    """

    def __init__(
        self,
        *,
        samples_per_cluster: int = 4,
        min_size: int = 3,
        max_size: int = 10,
        C: float = 0.1,
        num_iterations: int = 4,
        num_candidates: int = 10,
        min_firing: int = 3,
        num_members: int = 5,
        firing_threshold: float = -1.0,
        merge_threshold: float = 0.4,
        num_growths: int = 0,
        grown_size: int = 50,
        decision_threshold: float = 0.0,
        normalize: bool = False,
        validation_share: float = 0.1,
        max_negatives: int | None = None,
        seeding: str = "auto",
        cache_bytes: int = 1 << 30,
        devices: Sequence[str] | None = None,
        random_state: int = 0,
    ) -> None:
        self.samples_per_cluster = samples_per_cluster
        self.min_size = min_size
        self.max_size = max_size
        self.C = C
        self.num_iterations = num_iterations
        self.num_candidates = num_candidates
        self.min_firing = min_firing
        self.num_members = num_members
        self.firing_threshold = firing_threshold
        self.merge_threshold = merge_threshold
        self.num_growths = num_growths
        self.grown_size = grown_size
        self.decision_threshold = decision_threshold
        self.normalize = normalize
        self.validation_share = validation_share
        self.max_negatives = max_negatives
        self.seeding = seeding
        self.cache_bytes = cache_bytes
        self.devices = devices
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        natural_world: Any = None,
        groups: Any = None,
        report: Report | None = None,
        checkpoints: str | Path | None = None,
    ) -> "DiscriminativeClustering":
        """Finds the clusters of the discovery samples.

        Args:
            X: the discovery samples, float `[n, num_features]`: an array, or a table that is sliced
                like one (memory-mapped, sharded) and may be larger than memory.
            y: the natural world, too: `fit(discovery, natural_world)`. The name and the place are
                those of scikit-learn's labels; one-dimensional ones are ignored.
            natural_world: other samples, float `[m, num_features]`, against which clusters must
                stand out. None: a random half of `X` takes this part.
            groups: int `[n]`: samples of one group (patches of one image) stay in one half, so that
                a cluster is not confirmed by the image it came from. None: each on its own.
            report: called with a dict after every training, as in `history_`.
            checkpoints: folder in which the members are kept after the seeding, every training and
                the merging: the same call, interrupted, goes on after the last. What an
                interruption costs is one of these stages at most, or the final trainings with the
                labels. None keeps nothing.

        Returns:
            The estimator. Where no cluster survives, `labels_` is -1 throughout, with a
            `ConvergenceWarning`.

        Raises:
            ValueError: if a parameter or the input is unusable; in one line.
            RunError: if the folder of `checkpoints` is another clustering's.
        """
        check_parameters(self.get_params())
        table = self._check_table(X)
        world = natural_world
        if world is None and len(getattr(y, "shape", ())) == 2:
            world = y
        if world is not None:
            check_world(table, world)
        named = np.arange(len(table)) if groups is None else check_groups(groups, len(table))
        self.mean_, scale = measure(table)
        generator = np.random.default_rng(self.random_state)
        rows = self._rows(table, None if self.normalize else scale)
        halves = divide(
            rows, world, named, self.validation_share, generator, max_world=self.max_negatives
        )
        self.validation_rows_ = halves.validation.numbers
        self.history_: list[dict[str, Any]] = []
        tables = {"samples": table, **({} if world is None else {"natural_world": world})}
        identity = {} if checkpoints is None else identify(self.get_params(), tables, named)
        stages = StageFolder(checkpoints, identity)
        members, firing, side = self._discover(halves, stages, report)
        self._finish(rows, halves, members, firing, side)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Gives each cluster's score, float32 `[n, num_clusters]`; above 0 on its side."""
        check_is_fitted(self)
        vectors = np.asarray(self._readable(self._check_table(X, reset=False))[:], np.float64)
        # In float64 a row's scores do not depend on the rows beside it, once rounded.
        classifiers = self.classifiers_.astype(np.float64)
        scores = vectors @ classifiers[:, :-1].T + classifiers[:, -1]
        return scores.astype(np.float32)

    def predict(self, X: Any) -> np.ndarray:
        """Gives the best cluster of each sample, int32 `[n]`; -1 where none exceeds the threshold.

        Args:
            X: float `[n, num_features]`, as in `fit`.
        """
        check_is_fitted(self)
        table = self._check_table(X, reset=False)
        return self._label(table)

    def assign(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Gives (the cluster of the highest score, however low it is, int32 `[n]`; that score).

        Args:
            X: float `[n, num_features]`, as in `fit`.

        Returns:
            int32 `[n]` and float32 `[n]`; -1 and minus infinity where there are no clusters.
        """
        check_is_fitted(self)
        return best_cluster(self.classifiers_, self._readable(self._check_table(X, reset=False)))

    # --- the stages of fit ---

    def _discover(
        self, halves: Halves, stages: StageFolder, report: Report | None
    ) -> tuple[Members, Firing, int]:
        """Gives (members of each cluster in one half, what they fire on, the number of the half).

        All are places in the halves; clusters that do not fire on the other half are gone.
        """

        def train(one: Callable[..., Firing], iteration: int, members: Members) -> Firing:
            firing = stages.recall(
                f"training-{iteration:02d}", lambda: one(members, halves, iteration % 2)
            )
            self._record(firing, len(members), iteration, report)
            return firing

        members = stages.recall_members("seeds", lambda: self._seed(halves.discovery[0]))
        for iteration in range(self.num_iterations):
            members = train(self._fire, iteration, members).members
        side = self.num_iterations % 2
        members = stages.recall_members(
            "merged", lambda: self._merge(members, halves.discovery[side])
        )
        if not self.num_growths:
            firing = train(self._fire, self.num_iterations, members)
            return [members[number] for number in firing.kept], firing, side
        for iteration in range(self.num_iterations, self.num_iterations + self.num_growths):
            firing = train(self._grow, iteration, members)
            before, members = [members[number] for number in firing.kept], firing.members
        return before, firing, iteration % 2

    def _seed(self, half: Rows) -> Members:
        return seed_clusters(
            half,
            samples_per_cluster=self.samples_per_cluster,
            min_size=self.min_size,
            max_size=self.max_size,
            random_state=self.random_state,
            memory_bytes=self.cache_bytes,
            seeding=self.seeding,
        )

    def _fire(self, members: Members, halves: Halves, side: int) -> Firing:
        """Trains on one half, and fires on the other."""
        return fire_across(
            members,
            halves,
            side,
            num_candidates=self.num_candidates,
            min_firing=self.min_firing,
            num_members=self.num_members,
            threshold=self.firing_threshold,
            solver=self._solver(),
        )

    def _merge(self, members: Members, half: Rows) -> Members:
        return merge_members(members, half, self.merge_threshold, self._solver())

    def _grow(self, members: Members, halves: Halves, side: int) -> Firing:
        """Trains on one half, and shares out the other."""
        return grow_across(
            members,
            halves,
            side,
            min_size=self.min_size,
            max_size=self.grown_size,
            num_scored=self.num_members,
            solver=self._grown_solver(),
        )

    def _record(
        self, firing: Firing, num_trained: int, iteration: int, report: Report | None
    ) -> None:
        record = {
            "iteration": iteration,
            "num_trained": num_trained,
            "num_kept": len(firing.kept),
            "held_out_score": float(firing.scores.mean()) if len(firing.kept) else float("nan"),
        }
        self.history_.append(record)
        if report is not None:
            report(record)

    def _finish(
        self, rows: Rows, halves: Halves, members: Members, firing: Firing, side: int
    ) -> None:
        """Trains the final classifiers on the members of both halves, and sets the attributes."""
        order = np.argsort(-firing.scores, kind="stable")
        both = [[members[n] for n in order], [firing.members[n] for n in order]]
        first, second = both if side == 0 else both[::-1]
        self.scores_ = firing.scores[order].astype(np.float32)
        self.members_ = [
            np.concatenate(
                [half.numbers[places] for half, places in zip(halves.discovery, parts, strict=True)]
            )
            for parts in zip(first, second, strict=True)
        ]
        self.classifiers_ = np.zeros((0, rows.shape[1] + 1), np.float32)
        self.firing_precision_ = float("nan")
        if len(order):
            weights, halfway = self._train_finally((first, second), rows, halves)
            self.firing_precision_ = self._compare(halfway, halves)
            weights[:, -1] -= self._threshold(halfway, (first, second), halves)
            self.classifiers_ = rows.unscale(weights)
        else:
            warnings.warn(
                "No cluster survived: fire less strictly (`min_firing`, `firing_threshold`), or "
                f"give more samples. Received: n_samples={len(rows)}",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.labels_ = self._label(rows.table)
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Drops the clusters that no sample is in, which changes no label but its number."""
        used = np.unique(self.labels_[self.labels_ >= 0])
        self.num_empty_ = len(self.members_) - len(used)
        numbers = np.full(len(self.members_) + 1, -1, np.int32)  # the last is that of none
        numbers[used] = np.arange(len(used))
        self.labels_ = numbers[self.labels_]
        self.members_ = [self.members_[number] for number in used]
        self.classifiers_, self.scores_ = self.classifiers_[used], self.scores_[used]

    def _train_finally(
        self, members: tuple[Members, Members], rows: Rows, halves: Halves
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Gives the classifiers of all members, and those of the members of each half alone."""
        train = train_comparable_detectors if self.num_growths else train_detectors
        solver = self._grown_solver() if self.num_growths else self._solver()
        halfway = [
            train(one, half, world, **solver)
            for one, half, world in zip(members, halves.discovery, halves.world, strict=True)
        ]
        return train(self.members_, rows, halves.whole_world, **solver), halfway

    def _threshold(
        self, halfway: list[np.ndarray], members: tuple[Members, Members], halves: Halves
    ) -> np.ndarray | np.float32:
        """Gives the score from which on a sample is in a cluster, of each cluster or of all."""
        found = held_out_scores(halfway, members, halves)
        if self.num_growths:
            scores = np.concatenate([scores for scores, _ in found])
            return np.float32(np.quantile(scores, 1 - _SHARE_OF_MEMBERS))
        lowest = [lowest_scores(scores, ids, len(halfway[0])) for scores, ids in found]
        return ((lowest[0] + lowest[1]) / 2).astype(np.float32)

    def _compare(self, halfway: list[np.ndarray], halves: Halves) -> float:
        """Gives how far classifiers of the two halves agree on samples that neither has seen."""
        if len(halves.validation) < 10 * self.num_members:
            return float("nan")
        return reproducibility(halfway[0], halfway[1], halves.validation, self.num_members)

    def _label(self, table: Any) -> np.ndarray:
        best, scores = best_cluster(self.classifiers_, self._readable(table))
        return np.where(scores > self.decision_threshold, best, np.int32(-1))

    def _solver(self) -> dict[str, Any]:
        return {
            "C": self.C,
            "cache_bytes": self.cache_bytes,
            "seed": self.random_state,
            "devices": self.devices,
        }

    def _grown_solver(self) -> dict[str, Any]:
        """Gives the solver's arguments for more members, which share the weight of a few."""
        return {**self._solver(), "C": self.C * min(1.0, self.num_members / self.grown_size)}

    def _rows(self, table: Any, scale: float | None) -> Rows:
        numbers = np.arange(len(table))
        return Rows(table=table, numbers=numbers, mean=self.mean_, scale=scale)

    def _readable(self, table: Any) -> Any:
        """Gives the rows that `classifiers_` are of."""
        return self._rows(table, None) if self.normalize else table

    # --- input ---

    def _check_table(self, X: Any, *, reset: bool = True) -> Any:
        """Gives an array, or the table itself where it is one that is read in parts."""
        # scikit-learn would read a mapped file of half precision into memory, to convert it.
        is_mapped = isinstance(X, np.memmap) and X.ndim == 2 and X.dtype == np.float16
        if isinstance(X, ShardedArray) or is_mapped:
            self._check_num_features(X.shape[1], reset)
            return X
        return validate_data(
            self, X, reset=reset, dtype=[np.float32, np.float64], ensure_min_samples=2 - (not reset)
        )

    def _check_num_features(self, num_features: int, reset: bool) -> None:
        if reset:
            self.n_features_in_ = num_features
        elif num_features != self.n_features_in_:
            raise ValueError(
                f"X has {num_features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
