"""The objective of a linear SVM and its minimum, plainly and in float64."""

import numpy as np
from sklearn.svm import LinearSVC


def make_clusters(num_clusters=6, size=5, num_features=12, num_negatives=300, seed=0, spread=0.7):
    """Gives (positives, their clusters, negatives): clusters around centres in Gaussian noise."""
    generator = np.random.default_rng(seed)
    centres = 2 * generator.standard_normal((num_clusters, num_features))
    ids = np.repeat(np.arange(num_clusters), size)
    positives = centres[ids] + spread * generator.standard_normal((len(ids), num_features))
    negatives = generator.standard_normal((num_negatives, num_features))
    return positives.astype(np.float32), ids, negatives.astype(np.float32)


def objective(weights, positives, negatives, C=0.1):
    """1/2 |w|^2 + C sum max(0, 1 - y w x)^2; the bias, the last weight, is regularised too."""
    weights = np.asarray(weights, np.float64)
    total = 0.5 * weights @ weights
    for sample in np.asarray(positives, np.float64):
        total += C * max(0.0, 1 - (weights[:-1] @ sample + weights[-1])) ** 2
    for sample in np.asarray(negatives, np.float64):
        total += C * max(0.0, 1 + (weights[:-1] @ sample + weights[-1])) ** 2
    return total


def fit_one(positives, negatives, C=0.1):
    """liblinear's solution, far beyond the tolerance that is compared."""
    samples = np.concatenate([positives, negatives]).astype(np.float64)
    labels = np.concatenate([np.ones(len(positives)), -np.ones(len(negatives))])
    svm = LinearSVC(C=C, loss="squared_hinge", dual=False, tol=1e-8, max_iter=100_000)
    svm.fit(samples, labels)
    return np.append(svm.coef_[0], svm.intercept_)
