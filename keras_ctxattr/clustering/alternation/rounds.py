"""Clustering and network training in turn: each round's features are what the last one learnt."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import adjusted_rand_score

from keras_ctxattr.backbones.precision import resolve_policy
from keras_ctxattr.clustering.alternation.network import (
    BACKBONE,
    digest_start,
    train_classifier,
    training_figures,
)
from keras_ctxattr.clustering.alternation.patches import PATCHES, Progress, collect_patches
from keras_ctxattr.clustering.alternation.reading import KIND
from keras_ctxattr.clustering.alternation.recipe import AlternationRecipe
from keras_ctxattr.clustering.alternation.telling import say, say_described
from keras_ctxattr.clustering.metrics import cluster_sizes, coverage
from keras_ctxattr.clustering.table import ClusterTable
from keras_ctxattr.data.patches import PatchTable
from keras_ctxattr.export import export_module
from keras_ctxattr.features import FeatureTable, extract_features
from keras_ctxattr.features.descriptors import Descriptor, load_descriptor, make_descriptor
from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.runs.distribution import Devices, announce, open_together, together
from keras_ctxattr.runs.writing import remove

MAX_SHARE = 0.5  # of the clustered patches in one cluster, from which on clustering has collapsed


class TooFewClustersError(RunError):
    """There are not two clusters to learn from: a round's clusters cannot train a network."""


_NO_ROUND = 0  # what the first worker says when no network is left to be trained
_STAGES = "clustering"  # of a clustering that is not done, so that it can go on
_FIT_ROWS = 20_000  # patches from which first features learn what they have to learn


def alternate_clusters(
    images: Sequence[str | Path],
    folder: str | Path,
    recipe: AlternationRecipe | None = None,
    *,
    rounds: int = 3,
    start: str | Path | None = None,
    seed: int = 0,
    devices: Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Finds clusters, learns features from them, and finds clusters anew; the same call resumes.

    Round 0 clusters first features. Every further round trains a network, by softmax, to tell the
    clusters of the last kept round apart from random transformations of their patches, and clusters
    its features. A round is kept unless the share of validation patches on which the classifiers of
    both halves agree (`firing_precision_`) falls. It ends after a round that is not kept, after one
    that settles (its clusters are those before), or after `rounds`.

    A network begins with the weights of the last kept one, and sees no validation patch.

    Args:
        images: folders, archives, TFRecord files or `tfds:` names; for contours BSDS500.
        folder: the run folder; `rounds/N` will hold `features`, `clusters`, and from round 1 on
            `training`, a run folder too, and `module`, the network's features as a SavedModel.
        recipe: patches, first features, network and clustering.
        rounds: rounds after round 0, at least 0; may grow on a later call.
        start: a `.keras` file of a network like the recipe's, whose weights round 1 begins with;
            None for random ones.
        seed: seed of every draw, 0 to 2**31 - 1.
        devices: those that train the networks, as `keras_ctxattr.runs.distribution.open_devices`
            gives them; one device if None. Of several processes the first one does all the rest,
            and the others wait, for no longer than `deadline_minutes` at a time.
        callbacks: further Keras callbacks of the networks' training, called first.
        progress: called with (files looked at, files in all or None) while images are scanned.

    Returns:
        `kept`, the number of the last round that was kept; `stopped`, why no other followed;
        `rounds`, a list of each round's figures; `num_patches`.

    Raises:
        ValueError: if a number or the collection is unusable. A new folder is then as it was.
        RunError: if the folder holds another run.
        TooFewClustersError: if fewer than two clusters were found. What was done is kept.
        TrainingCollapsed: if a training failed for good.
        WorkersError: if the other processes are not all there, or not at one.

    Reference:
        Huang, Loy, Tang 2016, section 3.1.
    """
    recipe = recipe or AlternationRecipe()
    recipe = dataclasses.replace(recipe, dtype_policy=resolve_policy(recipe.dtype_policy))
    if rounds < 0 or not 0 <= seed < 2**31:
        raise ValueError(
            "`rounds` must be at least 0 and `seed` from 0 to 2**31 - 1. "
            f"Received: rounds={rounds}, seed={seed}"
        )
    make_descriptor(recipe.features, recipe.size)  # fails before anything is scanned
    config = {
        "images": [str(source) for source in images],
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "rounds": rounds,
        "start": digest_start(Path(start), recipe) if start else None,
    }
    devices = devices or Devices()

    def collect(run: Run) -> None:
        _check_count(recipe, len(collect_patches(run, images, recipe, seed, progress)))
        run.commit()

    opened = open_together(
        devices, folder, config, kind=KIND, extendable=("rounds",), prepare=collect
    )
    with together(devices), opened as run:
        # What the first worker found: it may finish before another looks.
        if announce(devices, int(run.finished)):
            return Run.read(folder, kind=KIND).summary
        patches = PatchTable.open(run.path / PATCHES)
        alternation = _Alternation(run, patches, recipe, start, seed, devices, callbacks)
        if not devices.leads:
            alternation.follow()
            return Run.read(folder, kind=KIND).summary
        summary = alternation.go(rounds)
        run.finish(summary)
        announce(devices, _NO_ROUND)
        return summary


def _check_count(recipe: AlternationRecipe, num_patches: int) -> None:
    wanted = recipe.clustering.get("num_clusters", 1)
    if wanted > num_patches:
        raise ValueError(
            f"`num_clusters` must be at most the number of patches, {num_patches:,}. "
            f"Received: {wanted}"
        )


@dataclasses.dataclass
class _Round:
    """A round that is done."""

    number: int
    clusters: ClusterTable

    @property
    def figures(self) -> dict[str, Any]:
        """What is known of it, JSON types."""
        return dict(self.clusters.facts["round"])


@dataclasses.dataclass
class _Alternation:
    """One process's share of a run; what is on the disk already is not done again."""

    run: Run
    patches: PatchTable
    recipe: AlternationRecipe
    start: str | Path | None
    seed: int
    devices: Devices
    callbacks: Sequence[keras.callbacks.Callback]

    def follow(self) -> None:
        """Takes part in the trainings of the first worker's rounds, until there are none."""
        while number := announce(self.devices):
            before = self._folder(number - 1) / "clusters"
            self._train(number, _Round(number - 1, ClusterTable.open(before)))

    def go(self, rounds: int) -> dict[str, Any]:
        """Gives the summary of the run."""
        kept = last = self._do(0, None)
        all_figures, stopped = [last.figures], f"{rounds} rounds were asked for"
        for number in range(1, rounds + 1):
            last = self._do(number, kept)
            figures = last.figures
            all_figures.append(figures)
            if not figures["kept"]:
                stopped = f"round {number} was not kept: {figures['reason']}"
                break
            kept = last
            if figures["agreement"] >= self.recipe.settled:
                stopped = f"round {number} settled"
                break
        return {
            "kept": kept.number,
            "stopped": stopped,
            "rounds": all_figures,
            "num_patches": len(self.patches),
        }

    def _do(self, number: int, before: _Round | None) -> _Round:
        """Does a round, or reads it if it was done."""
        folder = self._folder(number)
        if (folder / "clusters").exists():
            done = _Round(number, ClusterTable.open(folder / "clusters"))
        else:
            say(f"Round {number}: features")
            if before is None:
                features = self._describe_first(folder)
            else:
                features = self._learn_features(folder, number, before)
            done = self._cluster(folder, number, features, before)
        remove(folder / _STAGES)
        self._write_row(done.figures)
        say(describe_round(done.figures))
        return done

    # --- features ---

    def _describe_first(self, folder: Path) -> FeatureTable:
        descriptor = self._first_descriptor(folder / "features" / "descriptor.npz")
        return extract_features(
            self.patches, descriptor, folder / "features", progress=say_described
        )

    def _first_descriptor(self, stored: Path) -> Descriptor:
        """Gives the descriptor of round 0, as it was fitted at the run's first start."""
        descriptor = make_descriptor(self.recipe.features, self.recipe.size)
        if stored.exists():
            return load_descriptor(stored)
        generator = np.random.default_rng(self.seed)
        rows = np.sort(generator.permutation(len(self.patches))[:_FIT_ROWS])
        return descriptor.fit(np.asarray(self.patches.pixels[rows]), seed=self.seed)

    def _learn_features(self, folder: Path, number: int, before: _Round) -> FeatureTable:
        """Trains the round's network on the clusters before it, and describes all patches."""
        module = folder / "module"
        if not module.exists():
            announce(self.devices, number)
            network = self._train(number, before)
            export_module(
                network.get_layer("backbone"),
                module,
                preset="released",
                metadata={"images": self.run.config["images"], "round": number},
                config=self.run.config,
                metrics=training_figures(folder / "training"),
            )
        from keras_ctxattr.features.descriptors.module import ModuleFeatures

        descriptor = ModuleFeatures(str(module), self.recipe.size, normalize=True)
        return extract_features(
            self.patches, descriptor, folder / "features", progress=say_described
        )

    def _train(self, number: int, before: _Round) -> keras.Model:
        """Trains the round's network, or goes on; all workers do."""
        labels = _training_labels(before.clusters)
        say(f"Round {number}: training on {np.count_nonzero(labels >= 0):,} patches")
        return train_classifier(
            self.patches,
            labels,
            self._folder(number) / "training",
            self.recipe,
            seed=(self.seed + number) % 2**31,
            start=self._backbone_of(before),
            devices=self.devices,
            callbacks=self.callbacks,
        )

    def _folder(self, number: int) -> Path:
        return self.run.path / "rounds" / str(number)

    def _backbone_of(self, before: _Round) -> Path | None:
        """Gives the network from whose weights the next one begins."""
        if before.number == 0:
            return Path(self.start) if self.start else None
        return self._folder(before.number) / "training" / BACKBONE

    # --- clusters ---

    def _cluster(
        self, folder: Path, number: int, features: FeatureTable, before: _Round | None
    ) -> _Round:
        say(f"Round {number}: clustering")
        clustering = self.recipe.make_clustering(self.seed)
        # Patches of one image stay together, or it would confirm its own clusters.
        groups = None if self.recipe.unit == "image" else features.image_ids
        clustering.fit(
            features.vectors, groups=groups, report=_report, checkpoints=folder / _STAGES
        )
        figures = _measure(clustering)
        figures["agreement"] = agreement(
            clustering.labels_, before.clusters.labels if before else None
        )
        reason = _why_not(figures, before.figures if before else None)
        facts = {
            "round": {"round": number, "kept": not reason, "reason": reason, **figures},
            "history": clustering.history_,
            "parameters": clustering.get_params(),
        }
        table = ClusterTable.of(clustering, features.vectors, _without_nan(facts))
        table.save(folder / "clusters")
        return _Round(number, table)

    def _write_row(self, figures: dict[str, Any]) -> None:
        """Writes the round's row of metrics.csv, once."""
        if any(row["step"] == figures["round"] for row in self.run.metrics.rows()):
            return
        numbers = {
            name: value
            for name, value in figures.items()
            if isinstance(value, int | float) and name != "round"
        }
        self.run.metrics.append({"step": figures["round"], **numbers})


def _training_labels(clusters: ClusterTable) -> np.ndarray:
    """Gives the labels that a network may see: those of validation patches are -1."""
    labels = clusters.labels.copy()
    labels[clusters.validation_rows] = -1
    if len(np.unique(labels[labels >= 0])) < 2:
        raise TooFewClustersError(
            "There must be at least 2 clusters with patches to learn from: give more images, or "
            "other `clustering` arguments in another run folder. Received: "
            f"{clusters.num_clusters} clusters of {len(labels)} patches, "
            f"{np.count_nonzero(labels >= 0)} of them in one"
        )
    return labels


def agreement(labels: np.ndarray, before: np.ndarray | None) -> float:
    """Gives how far two rounds put the same patches together: 1 the same, 0 as chance would.

    The adjusted Rand index over the patches that are in a cluster in both.

    Args:
        labels: int `[n]`, -1 for none.
        before: the same of an earlier round; None gives 0.
    """
    if before is None:
        return 0.0
    both = (labels >= 0) & (before >= 0)
    return float(adjusted_rand_score(before[both], labels[both])) if both.any() else 0.0


def describe_round(figures: dict[str, Any]) -> str:
    """Gives a line about a round."""
    precision = figures["firing_precision"]
    parts = [
        f"Round {figures['round']}: {figures['num_clusters']:,} clusters",
        f"{figures['coverage']:.1%} of the patches in one",
        f"largest {figures['largest_share']:.1%} of those",
    ]
    if figures["num_empty"]:
        parts.append(f"{figures['num_empty']} clusters without a patch dropped")
    if precision is not None:
        parts.append(f"firing precision {precision:.1%}")
    if figures["round"]:
        parts.append(f"agreement with the round before {figures['agreement']:.2f}")
    if not figures["kept"]:
        parts.append(f"not kept: {figures['reason']}")
    return ", ".join(parts)


def _measure(clustering: Any) -> dict[str, Any]:
    labels = clustering.labels_
    sizes = cluster_sizes(labels)
    scores = clustering.scores_
    return {
        "num_clusters": len(clustering.classifiers_),
        "num_empty": clustering.num_empty_,
        "coverage": coverage(labels),
        "largest_share": float(sizes.max(initial=0) / max(1, sizes.sum())),
        "median_size": float(np.median(sizes)) if len(sizes) else 0.0,
        "firing_precision": clustering.firing_precision_,
        "held_out_score": float(scores.mean()) if len(scores) else float("nan"),
    }


def _why_not(figures: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Gives why a round is not kept; empty if it is."""
    if before is None:
        return ""
    if figures["num_clusters"] < 2 or figures["largest_share"] > MAX_SHARE:
        return (
            f"clusters collapsed ({figures['num_clusters']}, the largest with "
            f"{figures['largest_share']:.0%} of the clustered patches)"
        )
    now, then = figures["firing_precision"], before["firing_precision"]
    if then is not None and not now >= then:  # NaN too
        return f"firing precision fell from {then:.1%} to {now:.1%}"
    return ""


def _without_nan(value: Any) -> Any:
    """Gives None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _report(record: dict[str, Any]) -> None:
    say(
        f"  training {record['iteration'] + 1}: {record['num_kept']:,} of "
        f"{record['num_trained']:,} clusters go on"
    )
