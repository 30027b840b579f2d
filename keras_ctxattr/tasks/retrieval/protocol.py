"""Retrieval by Hamming distance: queries drawn of every class, the rest ranked, several draws."""

import dataclasses
from typing import Any

import numpy as np

from keras_ctxattr.attributes.codes import hamming
from keras_ctxattr.tasks.retrieval.metrics import (
    average_precision,
    average_precision_at,
    count_ties,
    precision_at,
    precision_recall,
    precision_within,
)

DEPTH = 1000  # of mAP@1000 and precision@1000
RADIUS = 2  # in bits

_CHUNK = 100  # queries ranked at a time


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """How well codes find images of the query's class.

    Attributes:
        figures: `map_at_all`, `map_at_1000`, `precision_at_1000` and `precision_within_2`, each a
            dict with `mean` and `std` over the draws of queries.
        precision: float64 `[num_bits + 1]`: within each Hamming radius, mean over the draws; NaN
            where no query has a sample.
        recall: float64 `[num_bits + 1]`.
    """

    figures: dict[str, dict[str, float]]
    precision: np.ndarray
    recall: np.ndarray


def draw_queries(
    labels: np.ndarray, per_class: int, seed: int, is_candidate: np.ndarray | None = None
) -> np.ndarray:
    """Draws as many queries of every class.

    Args:
        labels: int `[n]`, the class of each image, -1 for none.
        per_class: queries of a class.
        seed: of the draw.
        is_candidate: bool `[n]`: the images that may be queries; None for all.

    Returns:
        int64 `[num_classes * per_class]`: rows, class by class.

    Raises:
        ValueError: if a class has no more images than that: none would be left to be found.
    """
    generator = np.random.default_rng(seed)
    allowed = np.ones(len(labels), bool) if is_candidate is None else is_candidate
    chosen = []
    for number in range(int(np.max(labels)) + 1):
        rows = np.flatnonzero(allowed & (labels == number))
        left = int(np.count_nonzero(labels == number)) - per_class
        if len(rows) < per_class or left < 1:
            raise ValueError(
                f"Every class must have {per_class} images for queries and another to be found: "
                f"draw fewer. Received: {len(rows)} in class {number}"
            )
        chosen.append(generator.permutation(rows)[:per_class])
    return np.concatenate(chosen)


def score_codes(
    codes: np.ndarray, labels: np.ndarray, draws: list[np.ndarray], depth: int = DEPTH
) -> Retrieval:
    """Ranks for each draw all images that are no queries by their distance to the queries.

    Args:
        codes: uint8 `[n, num_bits / 8]`.
        labels: int `[n]`: images of one class are relevant to each other; -1 is relevant to none.
        draws: rows of the queries of each draw.
        depth: of mAP@depth and precision@depth.

    Returns:
        Means and standard deviations over the draws.
    """
    rows = [_score_draw(codes, labels, queries, depth) for queries in draws]
    names = rows[0][0]
    figures = {
        name: {
            "mean": float(np.mean([figure[name] for figure, _, _ in rows])),
            "std": float(np.std([figure[name] for figure, _, _ in rows])),
        }
        for name in names
    }
    curves = [np.array([row[place] for row in rows]) for place in (1, 2)]
    known = np.isfinite(curves[0])
    sums = np.where(known, curves[0], 0.0).sum(axis=0)
    precision = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
    return Retrieval(figures, precision, curves[1].mean(axis=0))


def _score_draw(
    codes: np.ndarray, labels: np.ndarray, queries: np.ndarray, depth: int
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    is_gallery = np.ones(len(codes), bool)
    is_gallery[queries] = False
    gallery, classes = codes[is_gallery], labels[is_gallery]
    counted = []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK]
        relevant = labels[part][:, None] == classes
        counted.append(count_ties(hamming(codes[part], gallery), relevant, 8 * codes.shape[1]))
    sizes = np.concatenate([size for size, _ in counted])
    hits = np.concatenate([hit for _, hit in counted])
    figures = {
        "map_at_all": average_precision(sizes, hits).mean(),
        f"map_at_{depth}": average_precision_at(sizes, hits, depth).mean(),
        f"precision_at_{depth}": precision_at(sizes, hits, depth).mean(),
        f"precision_within_{RADIUS}": precision_within(sizes, hits, RADIUS).mean(),
    }
    return figures, *precision_recall(sizes, hits)
