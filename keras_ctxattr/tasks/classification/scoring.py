"""What features of one kind are worth: accuracies of all classifiers over all draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from keras_ctxattr.tasks.classification.classifiers import (
    PENALTY,
    SCALINGS,
    choose_penalty,
    classify_by_neighbours,
    classify_by_probe,
    classify_by_svm,
    scale_features,
    span_coordinates,
)
from keras_ctxattr.tasks.classification.protocol import Draw
from keras_ctxattr.tasks.comparison.metrics import class_mean_accuracy

CLASSIFIERS = ("svm", "svm_cv", "probe", "knn")
"""Linear SVM with C = 0.1, the same with C cross-validated, linear probe, nearest neighbours."""

_CLASSIFIERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "svm": classify_by_svm,
    "probe": classify_by_probe,
    "knn": classify_by_neighbours,
}

SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracies of one draw.

    Attributes:
        accuracies: by name of the classifier, 0 to 1; each class weighs the same.
        low_shot: by examples of a class, the accuracy of the SVM with C = 0.1.
        penalty: the C that was chosen; None if the classifier was not asked for.
    """

    accuracies: dict[str, float]
    low_shot: dict[int, float]
    penalty: float | None


def score_draw(
    blocks: Sequence[np.ndarray],
    labels: np.ndarray,
    draw: Draw,
    *,
    classifiers: Sequence[str] = CLASSIFIERS,
    shots: Iterable[int] = (),
    scaling: str = SCALINGS[0],
) -> Scores:
    """Learns from what teaches and scores what tests.

    Args:
        blocks: features, float `[images, num_features]` each; several are each scaled by
            themselves, so that all weigh the same, and laid side by side.
        labels: int `[images]`.
        draw: what teaches and what tests.
        classifiers: some of `CLASSIFIERS`.
        shots: examples of a class for the low-shot curve.
        scaling: one of `SCALINGS`.
    """
    # One thread: several for matrices as small as these take 20 times as long on a busy machine.
    with threadpool_limits(1):
        train, test = _prepare(blocks, draw.train, draw.test, scaling)
        classes, wanted = labels[draw.train], labels[draw.test]
        penalty = choose_penalty(train, classes) if "svm_cv" in classifiers else None
        found = {
            name: class_mean_accuracy(_classify(name, train, classes, test, penalty), wanted)[0]
            for name in classifiers
        }
        low_shot = {count: _score_shots(blocks, labels, draw, count, scaling) for count in shots}
    return Scores(accuracies=found, low_shot=low_shot, penalty=penalty)


def _prepare(
    blocks: Sequence[np.ndarray], train: np.ndarray, test: np.ndarray, scaling: str
) -> tuple[np.ndarray, np.ndarray]:
    scaled = [scale_features(block[train], block[test], scaling) for block in blocks]
    # Lengths stay those of one block: C means the same for one layer and for all.
    known, asked = (np.hstack(parts) / len(blocks) ** 0.5 for parts in zip(*scaled, strict=True))
    return span_coordinates(known, asked)


def _classify(
    name: str, train: np.ndarray, classes: np.ndarray, test: np.ndarray, penalty: float | None
) -> np.ndarray:
    if name == "svm_cv":
        return classify_by_svm(train, classes, test, penalty=penalty or PENALTY)
    return _CLASSIFIERS[name](train, classes, test)


def _score_shots(
    blocks: Sequence[np.ndarray], labels: np.ndarray, draw: Draw, count: int, scaling: str
) -> float:
    rows = draw.first(labels, count)
    train, test = _prepare(blocks, rows, draw.test, scaling)
    predicted = classify_by_svm(train, labels[rows], test)
    return class_mean_accuracy(predicted, labels[draw.test])[0]


def possible_shots(labels: np.ndarray, draws: Sequence[Draw]) -> list[int]:
    """Gives the numbers of `SHOTS` that every class of every draw has examples for."""
    classes, size = np.unique(labels), int(labels.max()) + 1
    counts = [np.bincount(labels[draw.train], minlength=size)[classes] for draw in draws]
    smallest = int(np.min(counts))
    return [count for count in SHOTS if count <= smallest]


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Gives mean, standard deviation (n - 1; None for one draw) and the draws themselves."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "draws": [float(v) for v in values]}


def summarize_scores(scores: Sequence[Scores]) -> dict[str, Any]:
    """Gives the figures of all draws of one kind of features."""
    figures: dict[str, Any] = {
        name: summarize([one.accuracies[name] for one in scores]) for name in scores[0].accuracies
    }
    low_shot = {
        str(count): summarize([one.low_shot[count] for one in scores])
        for count in scores[0].low_shot
    }
    chosen = [one.penalty for one in scores if one.penalty is not None]
    return {"accuracy": figures, "low_shot": low_shot, "chosen_penalties": chosen}


def summarize_gain(learnt: Mapping[str, Any], untrained: Mapping[str, Any]) -> dict[str, Any]:
    """Gives learnt minus untrained, draw by draw: what both owe to the draw falls out.

    Args:
        learnt: as `summarize_scores` gives it.
        untrained: the same, of the same draws.
    """
    return {
        name: summarize(np.subtract(one["draws"], untrained["accuracy"][name]["draws"]).tolist())
        for name, one in learnt["accuracy"].items()
    }
