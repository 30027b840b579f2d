"""How good a ranking by Hamming distance is, where many samples share a distance.

A query's ranking is a list of ties: for each distance, ascending, how many samples of the gallery
have it (`sizes`) and how many of those are relevant (`hits`). All figures are expectations over a
random order within each tie, so that they depend on neither the order of the gallery nor a sort.
"""

import numpy as np
from scipy.stats import hypergeom


def count_ties(
    distances: np.ndarray, relevant: np.ndarray, max_distance: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the samples at each distance.

    Args:
        distances: int `[queries, gallery]`, 0 to `max_distance`.
        relevant: bool `[queries, gallery]`.
        max_distance: the number of bits.

    Returns:
        `sizes` and `hits`, int64 `[queries, max_distance + 1]`.

    Raises:
        ValueError: if the shapes differ or a distance is out of range.
    """
    if distances.shape != relevant.shape or distances.ndim != 2 or not distances.size:
        raise ValueError(
            "`distances` and `relevant` must both be [queries, gallery], neither empty. Received: "
            f"{list(distances.shape)} and {list(relevant.shape)}"
        )
    if distances.min() < 0 or distances.max() > max_distance:
        raise ValueError(
            f"Distances must be 0 to {max_distance}, the number of bits. Received: "
            f"{distances.min()} to {distances.max()}"
        )
    num_queries, width = len(distances), max_distance + 1
    keys = distances.astype(np.int64) + width * np.arange(num_queries)[:, None]
    sizes = np.bincount(keys.ravel(), minlength=num_queries * width)
    hits = np.bincount(keys[relevant], minlength=num_queries * width)
    return sizes.reshape(num_queries, width), hits.reshape(num_queries, width)


def average_precision(sizes: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Gives the average precision over the whole ranking; queries without relevant samples get 0.

    Args:
        sizes: int `[queries, ties]`.
        hits: int `[queries, ties]`.

    Returns:
        float64 `[queries]`, 0 to 1.

    Reference:
        McSherry, Najork 2008, "Computing information retrieval performance measures efficiently in
        the presence of tied scores", section 2.3.
    """
    before, hits_before = _sums_before(sizes), _sums_before(hits)
    sums = _precision_sums(sizes, hits, before, hits_before, _harmonic(int(sizes.sum(1).max())))
    return sums.sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def average_precision_at(sizes: np.ndarray, hits: np.ndarray, depth: int) -> np.ndarray:
    """Gives the average precision of the first `depth`, over the relevant ones among them.

    That is what papers on hashing print as mAP@1000: the sum of precisions at the relevant samples
    of the first 1 000, divided by how many those are (and not by all relevant samples). Queries
    that find none get 0.

    Args:
        sizes: int `[queries, ties]`.
        hits: int `[queries, ties]`.
        depth: at least 1; a smaller gallery is ranked whole.

    Returns:
        float64 `[queries]`, 0 to 1.
    """
    before, hits_before = _sums_before(sizes), _sums_before(hits)
    harmonic = _harmonic(int(sizes.sum(1).max()))
    sums = _precision_sums(sizes, hits, before, hits_before, harmonic)
    is_whole = before + sizes <= depth
    results = np.zeros(len(sizes))
    for query in range(len(sizes)):
        whole = is_whole[query]
        done, found = sums[query, whole].sum(), hits[query, whole].sum()
        cut = np.flatnonzero(~whole & (before[query] < depth))
        if len(cut) == 0:
            results[query] = done / max(found, 1)
            continue
        tie = cut[0]
        taken = depth - before[query, tie]
        # How many relevant samples of the cut tie are among the first is a draw without return.
        drawn = np.arange(min(taken, hits[query, tie]) + 1)
        chances = hypergeom.pmf(drawn, sizes[query, tie], hits[query, tie], taken)
        part = _precision_sums(
            np.full(len(drawn), taken),
            drawn,
            np.full(len(drawn), before[query, tie]),
            np.full(len(drawn), found),
            harmonic,
        )
        results[query] = chances @ ((done + part) / np.maximum(found + drawn, 1))
    return results


def precision_at(sizes: np.ndarray, hits: np.ndarray, depth: int) -> np.ndarray:
    """Gives the share of relevant samples among the first `depth`.

    Args:
        sizes: int `[queries, ties]`.
        hits: int `[queries, ties]`.
        depth: at least 1; of a smaller gallery, all samples.

    Returns:
        float64 `[queries]`, 0 to 1.
    """
    taken = np.clip(depth - _sums_before(sizes), 0, sizes)
    found = (taken * hits / np.maximum(sizes, 1)).sum(axis=1)
    return found / np.minimum(depth, sizes.sum(axis=1))


def precision_within(sizes: np.ndarray, hits: np.ndarray, radius: int) -> np.ndarray:
    """Gives the share of relevant samples within a Hamming radius; 0 where there is no sample.

    Args:
        sizes: int `[queries, ties]`, the tie of distance 0 first.
        hits: int `[queries, ties]`.
        radius: in bits, 2 in most papers.

    Returns:
        float64 `[queries]`, 0 to 1.
    """
    near = slice(0, radius + 1)
    return hits[:, near].sum(axis=1) / np.maximum(sizes[:, near].sum(axis=1), 1)


def precision_recall(sizes: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the precision-recall curve over the Hamming radius, a mean over the queries.

    Precision is the mean over the queries that have a sample within the radius.

    Args:
        sizes: int `[queries, ties]`.
        hits: int `[queries, ties]`.

    Returns:
        `precision` and `recall`, float64 `[ties]`, a radius each; precision is NaN where no query
        has a sample.
    """
    returned, found = np.cumsum(sizes, axis=1), np.cumsum(hits, axis=1)
    has_some = returned > 0
    shares = found / np.maximum(returned, 1)
    counts = has_some.sum(axis=0)
    precision = np.where(counts > 0, shares.sum(axis=0) / np.maximum(counts, 1), np.nan)
    recall = (found / np.maximum(hits.sum(axis=1, keepdims=True), 1)).mean(axis=0)
    return precision, recall


def _sums_before(counts: np.ndarray) -> np.ndarray:
    """Gives for each tie the sum of those before it."""
    return np.cumsum(counts, axis=1) - counts


def _harmonic(count: int) -> np.ndarray:
    """Gives the harmonic numbers 0 to `count`, float64."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])


def _precision_sums(
    sizes: np.ndarray,
    hits: np.ndarray,
    before: np.ndarray,
    hits_before: np.ndarray,
    harmonic: np.ndarray,
) -> np.ndarray:
    """Gives each tie's expected sum of precisions at its relevant samples.

    At place i of a tie of n samples, r of them relevant, after N samples with R relevant ones, a
    relevant sample lies with chance r / n, and then R + 1 + (i - 1)(r - 1)/(n - 1) of the N + i
    first are relevant. The sum over i is one of constants and of 1 / (N + i).
    """
    slope = (hits - 1) / np.maximum(sizes - 1, 1)
    rest = hits_before + 1 - slope * (before + 1)
    sums = slope * sizes + rest * (harmonic[before + sizes] - harmonic[before])
    return np.where(hits > 0, sums * hits / np.maximum(sizes, 1), 0.0)
