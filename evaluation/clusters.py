"""How good clusters are, and what they look like.

    python -m evaluation.clusters --run runs/clusters --labels folders --out results/clusters

For each round of `training.cluster_features`: number of clusters, coverage and, with labels (which
nothing was learnt from), purity and normalised mutual information, beside k-means on the first
features cut to the same sizes and coverage, k-means on the round's own features cut likewise, and
random clusters of the same sizes; and all of it once more with every patch in its best cluster.
Writes results.json, `clusters.png` (the most discriminative clusters, one a row) and `index.html`
(all clusters). Under eight minutes for 50 000 images and four rounds of 500 clusters, two cores.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, print_table, track, write_results
from keras_ctxattr.clustering import (
    ClusterRound,
    ClusterTable,
    KMeansClustering,
    open_round,
    open_rounds,
)
from keras_ctxattr.clustering.metrics import (
    cluster_sizes,
    coverage,
    cut_to_sizes,
    nmi,
    purity,
    random_clusters,
)
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.patches import PatchTable
from keras_ctxattr.pictures import ClusterCard, cluster_sheet, write_gallery, write_png
from keras_ctxattr.runs import Run
from training.flags import parse_flags, run_script

_RANDOM_DRAWS = 5
_METRICS = ("purity", "nmi")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which clusters, and what to score them by.

    Attributes:
        run: run folder of training.cluster_features.
        out: folder of results.json, clusters.png and index.html.
        labels: folders (an image's folder is its class), or a CSV file with the columns
            image,label; nothing is scored if not given.
        round: round whose clusters are shown; the last kept one if not given.
        num_images: patches of a cluster in the gallery.
        max_clusters: clusters in the gallery.
        seed: seed of k-means and of random clusters.
    """

    run: Path
    out: Path
    labels: str | None = None
    round: int | None = None
    num_images: int = 24
    max_clusters: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_images", "max_clusters")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Scores and draws the clusters, writes it all, and gives the results."""
    run = Run.read(config.run, kind="clusters")
    out = check_folder(config.out)
    rounds = open_rounds(run.path)
    shown = open_round(run.path, config.round)
    patches = shown.patches
    truth, names = _read_truth(config.labels, patches)
    scored = [
        _score_round(one, rounds[0].vectors, truth, config.seed)
        for one in track(rounds, len(rounds), "rounds")
    ]
    cards = _cards(shown.clusters, patches, truth, names, config)
    num_clusters = len(cluster_sizes(shown.clusters.labels))
    sheet = cluster_sheet(cards, title=_title(run, shown), num_clusters=num_clusters)
    write_png(out / "clusters.png", sheet)
    chosen = scored[shown.number]
    write_gallery(
        out,
        _title(run, shown),
        cards,
        _summary(chosen),
        max_images=config.num_images,
        num_clusters=num_clusters,
    )
    return write_results(
        out,
        {**chosen["clustered"], "assigned": chosen["assigned"], "rounds": scored},
        script="evaluation.clusters",
        config=config,
        protocol=(
            "purity: share of the clustered patches that are of their cluster's most frequent "
            "class; k-means: as many clusters, the patches nearest to their centres, cut to the "
            f"same sizes; random: mean of {_RANDOM_DRAWS} draws of the same sizes; assigned: every "
            "patch in the cluster of its highest score"
        ),
        images={
            "images": "those of the run",
            "num_images": len(patches.keys),
            "num_patches": len(patches),
            "sources": run.config["images"],
        },
    )


# --- What is there ---


def _read_truth(source: str | None, patches: PatchTable) -> tuple[np.ndarray | None, list[str]]:
    """Gives the class of each patch, that of its image, and the classes' names."""
    if source is None:
        return None, []
    ids = sorted(patches.keys)
    classes, names = read_labels(source, [patches.keys[image_id] for image_id in ids])
    return classes[np.searchsorted(ids, patches.image_ids)], names


# --- Scores ---


def _score_round(
    one: ClusterRound, first: Any, truth: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Gives the figures of a round, for its labels and with every patch assigned."""
    clusters = one.clusters
    others = {"kmeans": first, **({"kmeans_on_features": one.vectors} if one.number else {})}

    @functools.cache
    def fit(name: str, num_clusters: int) -> KMeansClustering:
        vectors = np.asarray(others[name], np.float32)
        return KMeansClustering(num_clusters, random_state=seed).fit(vectors)

    def score(labels: np.ndarray) -> dict[str, Any]:
        sizes = cluster_sizes(labels)
        figures: dict[str, Any] = {"num_clusters": len(sizes), "coverage": coverage(labels)}
        if truth is None or not len(sizes):
            return figures
        figures |= _agreement(labels, truth)
        for name in others:
            members = fit(name, len(sizes)).members_
            figures[name] = _agreement(cut_to_sizes(members, sizes, len(labels)), truth)
        return {**figures, "random": _random(sizes, truth, seed)}

    return {
        "round": one.number,
        "kept": one.is_kept,
        "clustered": score(clusters.labels),
        "assigned": score(clusters.assigned),
        "facts": clusters.facts["round"],
    }


def _agreement(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    known = truth >= 0
    return {
        "purity": purity(labels[known], truth[known]),
        "nmi": nmi(labels[known], truth[known]),
    }


def _random(sizes: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, float]:
    draws = [
        _agreement(random_clusters(sizes, len(truth), seed + number), truth)
        for number in range(_RANDOM_DRAWS)
    ]
    return {name: float(np.mean([draw[name] for draw in draws])) for name in _METRICS}


# --- Pictures ---


def _cards(
    clusters: ClusterTable,
    patches: PatchTable,
    truth: np.ndarray | None,
    names: Sequence[str],
    config: Config,
) -> list[ClusterCard]:
    """Gives the most discriminative clusters that have patches, best patches first."""
    ranked = clusters.ranked_rows(clusters.labels)
    order = [number for number in range(clusters.num_clusters) if len(ranked[number])]
    cards = []
    for number in order[: config.max_clusters]:
        rows = ranked[number]
        pixels = np.asarray(patches.pixels[np.sort(rows[: config.num_images])])
        # The table is read in ascending order, and shown by falling score.
        places = np.argsort(np.argsort(rows[: config.num_images], kind="stable"), kind="stable")
        cards.append(
            ClusterCard(
                cluster_id=number,
                images=list(pixels[places]),
                num_members=len(rows),
                score=float(clusters.discriminativeness[number]),
                facts=_class_facts(rows, truth, names),
            )
        )
    return cards


def _class_facts(
    rows: np.ndarray, truth: np.ndarray | None, names: Sequence[str]
) -> dict[str, float | str]:
    if truth is None or not (truth[rows] >= 0).any():
        return {}
    counts = np.bincount(truth[rows][truth[rows] >= 0])
    return {
        "purity": float(counts.max() / counts.sum()),
        "most frequent": names[int(counts.argmax())],
    }


def _title(run: Run, shown: ClusterRound) -> str:
    return f"Clusters of {run.path.name}, round {shown.number}"


def _summary(scored: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Gives the table at the top of the page."""
    rows: dict[str, dict[str, float]] = {}
    for kind in ("clustered", "assigned"):
        figures = scored[kind]
        title = f"round {scored['round']}, {kind}"
        rows[title] = {name: figures[name] for name in _FIGURES if name in figures}
        for other, words in _OTHERS.items():
            if other in figures:
                rows[f"{title}: {words}"] = figures[other]
    return rows


_FIGURES = ("num_clusters", "coverage", *_METRICS)
_OTHERS = {
    "kmeans": "k-means on the first features",
    "kmeans_on_features": "k-means on this round's features",
    "random": "random",
}


def report(config: Config) -> None:
    """Scores the clusters, and prints one table."""
    results = main(config)
    rows = {}
    for one in results["rounds"]:
        for kind in ("clustered", "assigned"):
            figures = one[kind]
            rows[f"{one['round']} {kind}{'' if one['kept'] else ' (not kept)'}"] = [
                figures["num_clusters"],
                f"{figures['coverage']:.1%}",
                *(
                    figures.get(name, {}).get("purity") if name else figures.get("purity")
                    for name in ("", *_OTHERS)
                ),
            ]
    columns = ("round", "clusters", "coverage", "purity", "k-means", "k-means, features", "random")
    print_table(f"clusters -> {config.out}/index.html", rows, columns)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
