"""What attributes say: the images on both sides of each bit, a map of images with bits' borders.

    python -m evaluation.attributes --run runs/attributes --out results/attributes

Takes a run of `training.learn_attributes` and the clusters that it was learnt from. Writes
results.json (how often each bit is set, entropy, correlations, dead and duplicate bits),
`attributes.png` (for each bit its most confident images, Huang, Loy, Tang 2016, figure 4) and
`map.png` (figure 1: images placed by t-SNE of their scores, with the borders of those bits that a
line in the plane tells best, of different directions). Two minutes for 50 000 images on two cores.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, print_table, write_results
from keras_ctxattr.attributes import bit_statistics, encode_scores, load_hasher, score_samples
from keras_ctxattr.clustering import open_round
from keras_ctxattr.pictures import attribute_map, attribute_sheet, write_png
from keras_ctxattr.pictures.attributes import Border
from keras_ctxattr.runs import Run
from training.flags import parse_flags, run_script

_MAX_BORDERS = 3
_MAX_COSINE = 0.85  # of two borders' directions
_MIN_SHARE = 0.2  # of the images, on each side of a bit whose border is drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which attributes.

    Attributes:
        run: run folder of training.learn_attributes.
        out: folder of results.json and pictures.
        num_images: images on each side of a bit.
        max_bits: bits that are shown, the first.
        map_images: images that are placed on the map.
        seed: of the choice of images and of the map.
    """

    run: Path
    out: Path
    num_images: int = 8
    max_bits: int = 64
    map_images: int = 1500
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_images", "max_bits")
        check_counts(self, "map_images", at_least=50)
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Scores all patches, writes figures and pictures, and gives the figures."""
    hasher = load_hasher(config.run)
    out = check_folder(config.out)
    source = Run.read(config.run).config["source"]
    if not {"clusters", "round"} <= set(source):
        raise ValueError(
            "The run must know the clusters that it was learnt from, as those of "
            f"`training.learn_attributes` do. Received: {config.run}, learnt from {source or '?'}"
        )
    clusters = open_round(source["clusters"], source["round"])
    pixels = clusters.patches.pixels
    scores = score_samples(hasher, clusters.vectors if hasher.backbone is None else pixels)
    figures = bit_statistics(encode_scores(scores))
    write_png(out / "attributes.png", _draw_sides(scores, pixels, figures["shares"], config))
    picture, borders = _draw_map(scores, pixels, config)
    write_png(out / "map.png", picture)
    return write_results(
        out,
        {**figures, "borders": borders},
        script="evaluation.attributes",
        config=config,
        protocol=(
            "over all patches of the run that clusters come from; borders: share of the map's "
            "images that are on their bit's side of a line in the plane"
        ),
        images={"images": "those of the clusters", "num_images": len(pixels)},
    )


def _draw_sides(scores: np.ndarray, pixels: Any, shares: list[float], config: Config) -> np.ndarray:
    sides = {}
    for bit in range(min(scores.shape[1], config.max_bits)):
        order = np.argsort(scores[:, bit], kind="stable")
        highest, lowest = (
            [np.asarray(pixels[int(row)]) for row in end[: config.num_images]]
            for end in (order[::-1], order)
        )
        sides[f"bit {bit}: {shares[bit]:.0%}"] = (highest, lowest)
    return attribute_sheet(sides, title="Most confident images of each attribute")


def _draw_map(
    scores: np.ndarray, pixels: Any, config: Config
) -> tuple[np.ndarray, dict[str, float]]:
    generator = np.random.default_rng(config.seed)
    rows = generator.permutation(len(scores))[: config.map_images]
    chosen = scores[rows]
    perplexity = min(30.0, (len(rows) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=config.seed).fit_transform(
        chosen / np.maximum(chosen.std(axis=0), 1e-9)
    )
    found = []
    for bit in range(scores.shape[1]):
        is_set = chosen[:, bit] > 0
        if not _MIN_SHARE <= is_set.mean() <= 1 - _MIN_SHARE:
            continue
        line = LogisticRegression().fit(places, is_set)
        found.append((line.score(places, is_set), bit, (*line.coef_[0], line.intercept_[0])))
    best = _choose_borders(sorted(found, key=lambda one: -one[0]))
    picture = attribute_map(
        [np.asarray(pixels[int(row)]) for row in rows],
        places,
        {f"bit {bit}": border for _, bit, border in best},
        title="Images by their attribute scores (t-SNE), with the borders of attributes",
    )
    return picture, {f"bit {bit}": float(score) for score, bit, _ in best}


def _choose_borders(found: list[tuple[float, int, Border]]) -> list[tuple[float, int, Border]]:
    """Gives the best borders that differ in direction."""
    chosen: list[tuple[float, int, Border]] = []
    for one in found:
        normal = np.array(one[2][:2]) / np.hypot(*one[2][:2])
        others = [np.array(other[2][:2]) / np.hypot(*other[2][:2]) for other in chosen]
        if all(abs(normal @ other) < _MAX_COSINE for other in others):
            chosen.append(one)
    return chosen[:_MAX_BORDERS]


def _report(config: Config) -> None:
    results = main(config)
    names = ("entropy", "correlation", "max_correlation", "dead", "duplicate", "distinct")
    print_table(f"attributes -> {config.out}", {name: results[name] for name in names})


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
