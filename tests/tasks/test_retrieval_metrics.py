"""Retrieval figures against means over all orders within ties."""

import itertools

import numpy as np
import pytest

from keras_ctxattr.tasks.retrieval.metrics import (
    average_precision,
    average_precision_at,
    count_ties,
    precision_at,
    precision_recall,
    precision_within,
)


def plain_average_precision(relevant, depth, divide_by_all):
    found, total = 0, 0.0
    for place, is_relevant in enumerate(relevant[:depth], 1):
        if is_relevant:
            found += 1
            total += found / place
    count = sum(relevant) if divide_by_all else found
    return total / count if count else 0.0


def mean_over_orders(sizes, hits, figure):
    """Averages over every order of every tie."""
    ties = [
        set(itertools.permutations([True] * hit + [False] * (size - hit)))
        for size, hit in zip(sizes, hits, strict=True)
    ]
    return np.mean([figure(list(itertools.chain(*order))) for order in itertools.product(*ties)])


CASES = [
    ([3, 2, 4], [1, 2, 2]),
    ([1, 1, 1, 1], [1, 0, 0, 1]),
    ([0, 5, 0, 1], [0, 2, 0, 1]),
    ([4], [4]),
    ([2, 3], [0, 0]),
    ([6, 1], [1, 1]),
]


@pytest.mark.parametrize(("sizes", "hits"), CASES)
def test_expectations_are_means_over_all_orders_within_ties(sizes, hits):
    tied, found = np.array([sizes]), np.array([hits])
    total = sum(sizes)
    np.testing.assert_allclose(
        average_precision(tied, found)[0],
        mean_over_orders(sizes, hits, lambda r: plain_average_precision(r, total, True)),
    )
    for depth in range(1, total + 3):
        np.testing.assert_allclose(
            average_precision_at(tied, found, depth)[0],
            mean_over_orders(sizes, hits, lambda r, d=depth: plain_average_precision(r, d, False)),
            err_msg=str(depth),
        )
        np.testing.assert_allclose(
            precision_at(tied, found, depth)[0],
            mean_over_orders(sizes, hits, lambda r, d=depth: np.mean(r[:d])),
        )


def test_queries_do_not_influence_each_other():
    sizes = np.array([[3, 2, 4], [4, 4, 1], [9, 0, 0]])
    hits = np.array([[1, 2, 2], [0, 4, 1], [3, 0, 0]])
    for figure in (average_precision, lambda s, h: average_precision_at(s, h, 5)):
        together = figure(sizes, hits)
        alone = [figure(sizes[[row]], hits[[row]])[0] for row in range(3)]
        np.testing.assert_allclose(together, alone)


def test_ties_are_counted_by_distance():
    distances = np.array([[0, 2, 2, 1], [3, 3, 3, 3]])
    relevant = np.array([[True, False, True, True], [False, True, False, False]])
    sizes, hits = count_ties(distances, relevant, 3)
    np.testing.assert_array_equal(sizes, [[1, 1, 2, 0], [0, 0, 0, 4]])
    np.testing.assert_array_equal(hits, [[1, 1, 1, 0], [0, 0, 0, 1]])


def test_random_codes_score_the_share_of_relevant_samples():
    generator = np.random.default_rng(0)
    relevant = generator.random((40, 5000)) < 0.1
    distances = generator.binomial(16, 0.5, relevant.shape)
    ties = count_ties(distances, relevant, 16)
    assert average_precision(*ties).mean() == pytest.approx(0.1, abs=0.005)
    assert precision_at(*ties, 1000).mean() == pytest.approx(0.1, abs=0.005)


def test_a_perfect_ranking_scores_1():
    sizes, hits = np.array([[5, 20]]), np.array([[5, 0]])
    assert average_precision(sizes, hits)[0] == pytest.approx(1)
    assert average_precision_at(sizes, hits, 10)[0] == pytest.approx(1)
    assert precision_at(sizes, hits, 10)[0] == pytest.approx(0.5)


def test_precision_within_a_radius_and_the_curve():
    sizes = np.array([[1, 1, 2, 4], [0, 0, 2, 2], [0, 0, 0, 4]])
    hits = np.array([[1, 0, 2, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_allclose(precision_within(sizes, hits, 2), [3 / 4, 1 / 2, 0])
    precision, recall = precision_recall(sizes, hits)
    np.testing.assert_allclose(precision, [1, 0.5, (3 / 4 + 1 / 2) / 2, (0.5 + 0.5 + 0.25) / 3])
    np.testing.assert_allclose(recall, [0.25 / 3, 0.25 / 3, (0.75 + 0.5) / 3, 1])


def test_a_radius_that_finds_nothing_has_no_precision():
    precision, recall = precision_recall(np.array([[0, 4]]), np.array([[0, 2]]))
    assert np.isnan(precision[0]) and precision[1] == 0.5
    np.testing.assert_allclose(recall, [0, 1])


@pytest.mark.parametrize(
    ("distances", "relevant", "words"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), bool), "queries, gallery"),
        (np.full((1, 2), 9), np.zeros((1, 2), bool), "0 to 8"),
        (np.zeros((0, 3), int), np.zeros((0, 3), bool), "neither empty"),
    ],
)
def test_impossible_rankings_are_one_line(distances, relevant, words):
    with pytest.raises(ValueError, match=words):
        count_ties(distances, relevant, 8)
