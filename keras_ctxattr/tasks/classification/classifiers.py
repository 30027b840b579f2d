"""Classifiers of pooled features: linear SVMs, a linear probe, nearest neighbours.

All of them see features from which the mean of the training part is taken, each vector then divided
by its length; `"standard"` divides each dimension by its standard deviation instead.
"""

import warnings
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from keras_ctxattr.tasks.comparison.metrics import vote

SCALINGS = ("length", "standard")
PENALTY = 0.1
"""C of the papers' linear SVM: the weight of a sample's loss."""

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Among which the second row chooses its C, on the training part."""

PROBE_PENALTY = 100.0  # about what cross-validation on training parts of Caltech-101 chooses
NUM_NEIGHBOURS = 5
NUM_FOLDS = 3
_MIN_NORM = 1e-12
_MIN_SPREAD = 1e-6
_MAX_ITERATIONS = 10_000
_JITTER = 1e-6  # of a squared length of about 1: repeated photographs make a matrix singular


def scale_features(
    train: np.ndarray, test: np.ndarray, scaling: str = "length"
) -> tuple[np.ndarray, np.ndarray]:
    """Brings features to a common scale, by what the training part alone tells.

    Args:
        train: float `[n, num_features]`.
        test: float `[m, num_features]`.
        scaling: `"length"`: the mean is taken away and each vector divided by its length;
            `"standard"`: each dimension is brought to mean 0 and variance 1.

    Returns:
        Float64 arrays of the same shapes.

    Raises:
        ValueError: if `scaling` is unknown.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"`scaling` must be one of {', '.join(SCALINGS)}. Received: {scaling}")
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    mean = train.mean(axis=0)
    train, test = train - mean, test - mean
    if scaling == "standard":
        spread = np.sqrt((train**2).mean(axis=0))
        # What never changes in training says nothing, and must not explode in testing.
        spread[spread < _MIN_SPREAD * spread.max(initial=0)] = np.inf
        return train / spread, test / spread
    return _unit(train), _unit(test)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM)


def span_coordinates(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives coordinates in the span of the training vectors, where there are fewer than dimensions.

    The weights of a linear classifier with an L2 penalty lie in that span, so that it is the same
    classifier in either coordinates, and takes a fraction of the time in these.

    Args:
        train: float `[n, num_features]`.
        test: float `[m, num_features]`.

    Returns:
        Float64 `[n, k]` and `[m, k]`, k the smaller of n and `num_features`; all products of a
        training vector with another vector are kept, to about 1e-6 of its squared length.
    """
    count, num_features = train.shape
    if num_features <= count:
        return train, test
    gram = train @ train.T
    jitter = max(_JITTER * np.trace(gram) / count, _MIN_NORM)
    lower = cholesky(gram + jitter * np.eye(count), lower=True)
    return lower, solve_triangular(lower, train @ test.T, lower=True).T


def classify_by_svm(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, penalty: float = PENALTY
) -> np.ndarray:
    """Predicts by one-vs-all linear SVMs, squared hinge: `sklearn.svm.LinearSVC`.

    Args:
        train: float `[n, num_features]`.
        labels: int `[n]`.
        test: float `[m, num_features]`.
        penalty: C, the weight of a sample's loss.

    Reference:
        Huang, Loy, Tang 2016, section 5: C = 0.1.
    """
    model = LinearSVC(C=penalty, dual="auto", max_iter=_MAX_ITERATIONS, random_state=0)
    return _predict(model, train, labels, test)


def choose_penalty(train: np.ndarray, labels: np.ndarray) -> float:
    """Gives the C of `PENALTIES` that cross-validation finds best: the smallest of equal ones.

    Args:
        train: float `[n, num_features]`, the training part alone.
        labels: int `[n]`; as many folds as the rarest class has examples, three at most. With one
            example of a class there is nothing to choose by, and the papers' C is given.
    """
    num_folds = min(NUM_FOLDS, int(np.bincount(labels)[np.unique(labels)].min()))
    if num_folds < 2:
        return PENALTY
    right = dict.fromkeys(PENALTIES, 0)
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=0)
    for kept, left_out in folds.split(train, labels):
        known, asked = span_coordinates(train[kept], train[left_out])
        for penalty in PENALTIES:
            found = classify_by_svm(known, labels[kept], asked, penalty=penalty)
            right[penalty] += int((found == labels[left_out]).sum())
    return max(PENALTIES, key=lambda penalty: right[penalty])


def classify_by_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, penalty: float = PROBE_PENALTY
) -> np.ndarray:
    """Predicts by a linear probe: multinomial logistic regression."""
    model = LogisticRegression(C=penalty, max_iter=1000)
    return _predict(model, train, labels, test)


def _predict(model: Any, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # The last digits of a large C's objective decide no class, and one example of a class is
        # what a low-shot curve begins with.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return model.fit(train, labels).predict(test)


def classify_by_neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, count: int = NUM_NEIGHBOURS
) -> np.ndarray:
    """Predicts by the nearest training vectors in cosine: a majority, of as many the nearer ones.

    Args:
        train: float `[n, num_features]`.
        labels: int `[n]`, 0 and more.
        test: float `[m, num_features]`.
        count: neighbours that vote, all where there are fewer.
    """
    cosines = _unit(test) @ _unit(train).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return vote(rows, np.take_along_axis(cosines, rows, axis=1), labels)
