"""Search in an index: what ranking by features adds to codes alone.

    python -m evaluation.search --index INDEX --labels folders --out results/search

Protocol `index-search`: images of the index are drawn as queries; each one's nearest images, itself
left out, are right if they are of its class. `precision` of the first `--count`: by codes alone, as
`ImageIndex.search` ranks them (the 200 nearest codes by the cosine of their features), and by the
features of all images, which takes a comparison with every one. The spread is over the draws.
Labels are used for these figures alone. Writes results.json.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, print_table, track, write_results
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.search import ImageIndex
from training.flags import parse_flags, run_script

PROTOCOL = "index-search"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which index is searched.

    Attributes:
        index: folder that `ctxattr index` made, with vectors.
        out: folder of results.json.
        labels: folders (an image's folder is its class), or a CSV file with the columns
            image,label.
        count: results that are looked at.
        num_queries: of a draw.
        num_draws: how often queries are drawn.
        seed: seed of the draws.
    """

    index: Path
    out: Path
    labels: str = "folders"
    count: int = 20
    num_queries: int = 500
    num_draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "count", "num_queries", "num_draws")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Draws queries, searches, scores, and gives what results.json holds."""
    check_folder(config.out)
    index = ImageIndex(config.index)
    images = index.store.images(index.ids)
    names = [images[int(image)].name for image in index.ids]
    classes, _ = read_labels(config.labels, names)
    labelled = np.flatnonzero(classes >= 0)
    vectors = index.vectors()
    scores: dict[str, list[float]] = {}
    draws = [
        np.random.default_rng([config.seed, draw]).permutation(labelled)[: config.num_queries]
        for draw in range(config.num_draws)
    ]
    for queries in track(draws, len(draws), "draws"):
        rows = [_score(index, vectors, classes, int(query), config.count) for query in queries]
        for kind in rows[0]:
            scores.setdefault(kind, []).append(float(np.mean([row[kind] for row in rows])))
    precision = {
        kind: {"mean": float(np.mean(means)), "std": float(np.std(means))}
        for kind, means in scores.items()
    }
    return write_results(
        config.out,
        {"precision": precision, "chance": _chance(classes[labelled])},
        script="evaluation.search",
        config=config,
        protocol=PROTOCOL,
        images={"images": "of the index", "num_images": len(index)},
    )


def _score(
    index: ImageIndex, vectors: np.ndarray, classes: np.ndarray, query: int, count: int
) -> dict[str, float]:
    """Gives the share of the first results of one query that are of its class."""
    code, vector = index.codes[query], vectors[query]
    by_codes, _, _ = index.rank(code, count=count + 1)
    ranked, _, _ = index.rank(code, vector, count=count + 1)
    everything = np.argsort(-(vectors @ vector), kind="stable")[: count + 1]
    found = {"codes": by_codes, "codes_then_features": ranked, "all_features": everything}
    return {
        kind: float((classes[rows[rows != query][:count]] == classes[query]).mean())
        for kind, rows in found.items()
    }


def _chance(classes: np.ndarray) -> float:
    """Gives the precision of results at random, the query left out."""
    counts = np.bincount(classes)
    return float((counts * (counts - 1)).sum() / (len(classes) * (len(classes) - 1)))


def report(config: Config) -> None:
    """Runs the evaluation and prints one table."""
    results = main(config)
    rows = {
        name.replace("_", " "): [f"{100 * one['mean']:.1f} ± {100 * one['std']:.1f}"]
        for name, one in results["precision"].items()
    }
    rows["chance"] = [f"{100 * results['chance']:.1f}"]
    print_table(f"{PROTOCOL} -> {config.out}", rows, ("", f"precision@{config.count}, %"))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
