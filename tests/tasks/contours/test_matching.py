"""Correspondence of pixels: by hand, against a plain solver; what the benchmark's draws lose."""

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from keras_ctxattr.tasks.contours import matching as matching_module
from keras_ctxattr.tasks.contours.matching import MATCHINGS, Reference, match_contours


def draw_map(seed, shape=(40, 50), share=0.05):
    return np.random.default_rng(seed).random(shape) < share


def plain_costs(one, other, max_distance):
    """Gives (most pairs, their least sum of distances), each pixel beside each."""
    places, others = np.argwhere(one), np.argwhere(other)
    distances = np.linalg.norm(places[:, None] - others[None], axis=-1)
    limit = max_distance * math.hypot(*one.shape)
    costs = np.where(distances <= limit, np.rint(distances * 100), 1e6)
    rows, columns = linear_sum_assignment(costs)
    paired = costs[rows, columns] < 1e6
    return int(paired.sum()), costs[rows, columns][paired].sum()


@pytest.mark.parametrize("matching", MATCHINGS)
def test_a_map_matches_itself_and_nothing_matches_nothing(matching):
    lines = np.zeros((30, 30), bool)
    lines[10], lines[20, :15] = True, True
    found, other = match_contours(lines, lines, matching=matching)
    assert found.all() and other.all()
    assert (len(found), len(other)) == (45, 45)
    empty = np.zeros_like(lines)
    assert not match_contours(lines, empty, matching=matching)[0].any()
    found, other = match_contours(empty, lines, matching=matching)
    assert (len(found), other.any()) == (0, False)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_pixels_as_far_as_the_limit_match_and_none_farther(matching):
    one = np.zeros((300, 400), bool)  # a diagonal of 500: 3.75 pixels
    one[100, 100] = one[200, 200] = True
    near, far = np.zeros_like(one), np.zeros_like(one)
    near[103, 102] = True  # 3.61 pixels away
    far[102, 203] = far[204, 200] = True
    assert match_contours(one, near, matching=matching)[0].tolist() == [True, False]
    assert not match_contours(one, far, matching=matching)[1].any()
    assert match_contours(one, far, matching=matching, max_distance=0.008)[1].tolist() == [
        False,
        True,
    ]


def test_pairs_are_as_many_as_possible_before_they_are_short():
    one, other = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    one[50, 50] = one[50, 51] = True
    other[50, 51] = other[50, 52] = True  # each moves by one, though one pair would cost nothing
    found, matched = match_contours(one, other, matching="optimal")
    assert found.all() and matched.all()


@pytest.mark.parametrize("seed", range(5))
def test_optimal_pairs_are_those_of_a_plain_solver(seed):
    one, other = draw_map(seed), draw_map(100 + seed)
    found, matched = match_contours(one, other, matching="optimal", max_distance=0.04)
    pairs, _ = plain_costs(one, other, 0.04)
    assert found.sum() == matched.sum() == pairs
    # Which pixels pair is free among equals; no other choice of them costs less.
    chosen, chosen_others = np.zeros_like(one), np.zeros_like(one)
    chosen[one], chosen_others[other] = found, matched
    assert plain_costs(chosen, chosen_others, 0.04) == plain_costs(one, other, 0.04)


def test_the_benchmarks_draws_lose_few_pairs_and_follow_the_seed():
    one, other = draw_map(1, (200, 200), 0.1), draw_map(2, (200, 200), 0.1)
    best = match_contours(one, other, matching="optimal", max_distance=0.01)[0].sum()
    runs = [match_contours(one, other, max_distance=0.01, seed=seed) for seed in (0, 0, 1)]
    counts = [found.sum() for found, _ in runs]
    assert all(0.97 * best < count <= best for count in counts)
    assert all(found.sum() == matched.sum() for found, matched in runs)
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert (runs[0][0] != runs[2][0]).any()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.03, 0.1])
def test_pairs_sought_alone_are_those_of_the_whole_assignment(seed, share, monkeypatch):
    """Its least cost can be had by pairs that are sought without most of the outliers."""
    one, other = draw_map(seed, (60, 60), share), draw_map(50 + seed, (60, 60), 0.07)
    costs = []
    for is_whole in (False, True):
        if is_whole:
            monkeypatch.setattr(matching_module, "_can_assign_rest", lambda *given: False)
        found, matched = match_contours(one, other, max_distance=0.03, seed=seed)
        chosen, chosen_others = np.zeros_like(one), np.zeros_like(one)
        chosen[one], chosen_others[other] = found, matched
        assert found.sum() == matched.sum()
        costs.append(plain_costs(chosen, chosen_others, 0.03))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (4, 2)])
def test_a_few_pixels_are_matched(matching, rows, columns):
    one, other = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    one[5, :rows], other[5, :columns] = True, True
    found, matched = match_contours(one, other, matching=matching, max_distance=0.3)
    assert found.sum() == matched.sum() == min(rows, columns)


def test_a_reference_is_made_once_for_all_maps():
    one, other = draw_map(1), draw_map(2)
    again = Reference.of(other, 0.04)
    for _ in range(2):
        for left, right in zip(
            match_contours(one, again, seed=3),
            match_contours(one, other, max_distance=0.04, seed=3),
            strict=True,
        ):
            np.testing.assert_array_equal(left, right)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"one size.*\(4, 5\) and \(5, 4\)"):
        match_contours(np.zeros((4, 5), bool), np.zeros((5, 4), bool))
    with pytest.raises(ValueError, match="`matching` must be one of benchmark, optimal"):
        match_contours(np.zeros((4, 5), bool), np.zeros((4, 5), bool), matching="greedy")
