"""How well vectors tell classes apart: by their neighbours, and by a few labelled examples."""

import numpy as np

_CHUNK = 1024


def nearest_others(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the nearest other samples of each by cosine, the nearest first.

    Args:
        vectors: float32 `[n, num_features]` of unit length.
        count: how many; at most n - 1.

    Returns:
        (rows int64 `[n, count]`, cosines float32 `[n, count]`).

    Raises:
        ValueError: if there are not as many others.
    """
    if not 1 <= count < len(vectors):
        raise ValueError(
            "Neighbours must be at least 1 and fewer than the samples. Received: "
            f"{count} of {len(vectors)}"
        )
    rows, cosines = [], []
    for start in range(0, len(vectors), _CHUNK):
        table = vectors[start : start + _CHUNK] @ vectors.T
        own = np.arange(len(table))
        table[own, own + start] = -np.inf
        order = np.argsort(-table, axis=1, kind="stable")[:, :count]
        rows.append(order)
        cosines.append(np.take_along_axis(table, order, axis=1))
    return np.concatenate(rows), np.concatenate(cosines)


def vote(rows: np.ndarray, cosines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gives the class of most neighbours; of as many, that of the larger sum of cosines.

    Args:
        rows: int `[queries, k]`, neighbours.
        cosines: float `[queries, k]`.
        labels: int `[samples]`, 0 and more, of what `rows` are of.

    Returns:
        int64 `[queries]`.
    """
    votes = np.zeros((len(rows), int(labels.max()) + 1))
    queries = np.repeat(np.arange(len(rows)), rows.shape[1])
    # A share of a vote, at most half of one together, decides between as many.
    weights = 1 + np.clip(cosines, -1, 1) / (2 * rows.shape[1])
    np.add.at(votes, (queries, labels[rows].ravel()), weights.ravel())
    return votes.argmax(axis=1)


def class_mean_accuracy(predicted: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Gives the accuracy, each class weighing the same, and its standard error.

    Args:
        predicted: int `[n]`.
        labels: int `[n]`.

    Returns:
        (mean over classes of the share that is right, its standard error over samples).
    """
    shares, variances = [], []
    for label in np.unique(labels):
        right = predicted[labels == label] == label
        shares.append(right.mean())
        variances.append(right.var() / len(right))
    return float(np.mean(shares)), float(np.sqrt(np.sum(variances)) / len(shares))


def few_shot_accuracies(
    vectors: np.ndarray, labels: np.ndarray, shots: int, num_draws: int, seed: int
) -> np.ndarray:
    """Gives the accuracy of the nearest class mean of a few examples, for several draws of them.

    Args:
        vectors: float32 `[n, num_features]` of unit length.
        labels: int `[n]`; each class must have more than `shots` samples.
        shots: examples of a class, at least 1.
        num_draws: how many draws.
        seed: of the draws; the same for every network that is compared.

    Returns:
        float64 `[num_draws]`: on all other samples, each class weighing the same.

    Raises:
        ValueError: if a class has too few samples.
    """
    counts = np.bincount(labels)
    if shots < 1 or (counts[counts > 0] <= shots).any():
        raise ValueError(
            "Each class must have more samples than are drawn as examples. Received: "
            f"{counts[counts > 0].min()} and {shots}"
        )
    accuracies = []
    for draw in range(num_draws):
        generator = np.random.default_rng([seed, draw])
        chosen = np.concatenate(
            [
                generator.permutation(np.flatnonzero(labels == label))[:shots]
                for label in np.unique(labels)
            ]
        )
        is_tested = np.ones(len(labels), bool)
        is_tested[chosen] = False
        predicted = nearest_class_mean(vectors[is_tested], vectors[chosen], labels[chosen])
        accuracies.append(class_mean_accuracy(predicted, labels[is_tested])[0])
    return np.array(accuracies)


def nearest_class_mean(vectors: np.ndarray, examples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gives the class whose mean of examples is nearest to each vector.

    Args:
        vectors: float32 `[n, num_features]`.
        examples: float32 `[examples, num_features]`.
        labels: int `[examples]`.

    Returns:
        int `[n]`.
    """
    classes = np.unique(labels)
    means = np.stack([examples[labels == label].mean(axis=0) for label in classes])
    # Of |v - m|^2, what depends on m.
    distances = (means**2).sum(axis=1) - 2 * vectors @ means.T
    return classes[distances.argmin(axis=1)]


def shared_neighbours(first: np.ndarray, second: np.ndarray) -> float:
    """Gives the mean share of neighbours that two networks have in common.

    Args:
        first: int `[queries, k]`.
        second: int `[queries, k]`.
    """
    pairs = zip(first, second, strict=True)
    return float(np.mean([np.isin(one, other).mean() for one, other in pairs]))
