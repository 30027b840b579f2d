"""Members, halves and merging."""

import numpy as np
import pytest

from keras_ctxattr.clustering.members import best_rows, flatten, seed_clusters, split_in_halves
from keras_ctxattr.clustering.merging import choose_pairs, merge_clusters, overlaps
from keras_ctxattr.clustering.rows import Rows, measure


def as_rows(vectors):
    vectors = np.asarray(vectors, np.float32)
    mean = np.zeros(vectors.shape[1], np.float32)
    return Rows(table=vectors, numbers=np.arange(len(vectors)), mean=mean, scale=1.0)


def test_overlap_is_the_mean_of_both_shares_that_fire():
    scores = np.array([[1, 1], [1, -1], [-1, 1], [-1, 1], [1, 1], [-1, 1]])
    ids = np.array([0, 0, 1, 1, 1, 1])
    # One of two members of 0 fires for 1; one of four members of 1 fires for 0.
    np.testing.assert_allclose(overlaps(scores, ids).toarray(), [[0, 0.375], [0.375, 0]])


def test_classifiers_fire_from_the_lowest_of_their_own_members_on():
    """No pair of clusters ever merged: all scores are below 0 where members are few."""
    scores = np.array([[-0.5, -0.7], [-0.8, -0.6], [-0.8, -0.6], [-0.9, -0.5]])
    ids = np.array([0, 0, 1, 1])
    # Cluster 1 fires from -.6 on: on one of the members of 0; 0 from -.8 on, on one of 1.
    np.testing.assert_allclose(overlaps(scores, ids).toarray(), [[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize("size", [1, 30, 77, 10_000])
def test_overlaps_of_some_clusters_at_a_time_are_those_of_all(monkeypatch, size):
    generator = np.random.default_rng(0)
    ids = np.sort(np.concatenate([np.arange(12), generator.integers(0, 12, 18)]))
    scores = generator.integers(-4, 4, (30, 12)).astype(np.float32)
    scores[np.arange(30), ids] += 2
    expected = np.zeros((12, 12))
    for one in range(12):
        for other in np.setdiff1d(range(12), [one]):
            shares = [
                np.mean(scores[ids == a][:, b] >= scores[ids == b][:, b].min())
                for a, b in ((one, other), (other, one))
            ]
            expected[one, other] = np.mean(shares)
    monkeypatch.setattr("keras_ctxattr.clustering.merging.MAX_SCORES", size)
    found = overlaps(scores, ids)
    np.testing.assert_allclose(found.toarray(), expected)
    assert choose_pairs(found, 0.3) == choose_pairs(expected, 0.3) != []


def test_pairs_are_disjoint_and_the_most_overlapping_come_first():
    overlap = np.zeros((5, 5))
    for one, other, value in ((0, 1, 0.6), (1, 2, 0.9), (3, 4, 0.5), (0, 3, 0.4)):
        overlap[one, other] = overlap[other, one] = value
    assert choose_pairs(overlap, 0.4) == [(1, 2), (3, 4)]


def test_merging_goes_on_until_no_pair_overlaps():
    members = [np.array([row]) for row in range(6)]
    families = np.array([0, 0, 1, 1, 1, 2])

    def score_members(clusters):
        rows, _ = flatten(clusters)
        owners = [families[rows_of[0]] for rows_of in clusters]
        return np.where(families[rows][:, None] == np.array(owners)[None, :], 1.0, -1.0)

    merged = merge_clusters(members, score_members, 0.4)
    assert sorted(sorted(rows.tolist()) for rows in merged) == [[0, 1], [2, 3, 4], [5]]
    assert [row.tolist() for row in members] == [[0], [1], [2], [3], [4], [5]]


def test_members_that_both_clusters_hold_are_kept_once():
    merged = merge_clusters([np.array([3, 1]), np.array([1, 2])], lambda _: np.ones((4, 2)), 0.4)
    assert [rows.tolist() for rows in merged] == [[3, 1, 2]]


def test_best_rows_are_the_highest_first_and_the_lower_row_of_equals():
    scores = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 0.0], [3.0, 7.0]])
    np.testing.assert_array_equal(best_rows(scores, 3), [[1, 3], [3, 0], [2, 1]])
    assert best_rows(scores, 10).shape == (4, 2)


def test_best_rows_are_looked_for_in_some_columns_at_a_time(monkeypatch):
    scores = np.random.default_rng(0).integers(0, 9, (50, 7))
    whole = best_rows(scores, 5)
    monkeypatch.setattr("keras_ctxattr.clustering.members.BEST_COLUMNS", 3)
    np.testing.assert_array_equal(best_rows(scores, 5), whole)
    assert best_rows(scores[:, :0], 5).shape == (5, 0)


def test_halves_keep_groups_together_and_are_about_equal():
    groups = np.repeat(np.arange(50), np.random.default_rng(0).integers(1, 9, 50))
    first, second = split_in_halves(groups, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(groups)))
    assert not set(groups[first]) & set(groups[second])
    assert abs(len(first) - len(second)) <= 9


def test_seeds_are_compact_clusters_nearest_to_their_centre_first():
    generator = np.random.default_rng(0)
    centres = 50 * generator.standard_normal((5, 6))
    vectors = np.repeat(centres, 4, axis=0) + generator.standard_normal((20, 6))
    seeds = seed_clusters(
        as_rows(vectors),
        samples_per_cluster=4,
        min_size=3,
        max_size=3,
        random_state=0,
        memory_bytes=1 << 20,
    )
    assert seeds and all(len(rows) == 3 for rows in seeds)
    for rows in seeds:
        assert len(set(rows // 4)) <= 2


def scale_rows(table):
    mean, scale = measure(table)
    return Rows(table=table, numbers=np.arange(len(table)), mean=mean, scale=scale)[:]


def test_measure_gives_mean_and_scale_of_a_mean_squared_length_of_1():
    mean, scale = measure(np.array([[1.0, 5], [1, 5], [5, 2], [5, 2]]))
    assert mean.tolist() == [3, 3.5]
    assert scale == pytest.approx(2.5)  # all lie (2, 1.5) from the mean


@pytest.mark.parametrize("num_features", [1, 3, 64, 1000])
def test_scale_follows_the_mean_squared_length_whatever_the_number_of_features(num_features):
    """Unit variance a feature made classifiers single out their members: losses ruled."""
    spreads = np.linspace(1, 3, num_features)
    table = np.random.default_rng(0).normal(7, spreads, (9000, num_features)).astype(np.float32)
    scaled = scale_rows(table)
    assert np.abs(scaled.mean(axis=0)).max() < 1e-4
    assert np.mean(np.sum(scaled**2, axis=1)) == pytest.approx(1, rel=1e-4)


def test_repeated_and_constant_features_change_no_product_of_scaled_rows():
    table = np.random.default_rng(0).normal(7, [1, 2, 3], (50, 3)).astype(np.float32)
    expected = scale_rows(table) @ scale_rows(table).T
    for wider in (np.tile(table, 16), np.pad(table, [(0, 0), (0, 9)], constant_values=4)):
        scaled = scale_rows(wider)
        np.testing.assert_allclose(scaled @ scaled.T, expected, atol=1e-5)


def test_classifiers_of_scaled_rows_become_those_of_the_table():
    generator = np.random.default_rng(0)
    table = generator.normal(5, 3, (100, 4)).astype(np.float32)
    mean, scale = measure(table)
    rows = Rows(table=table, numbers=np.arange(100), mean=mean, scale=scale)
    weights = generator.standard_normal((3, 5)).astype(np.float32)
    raw = rows.unscale(weights)
    scaled_scores = rows[:] @ weights[:, :-1].T + weights[:, -1]
    np.testing.assert_allclose(table @ raw[:, :-1].T + raw[:, -1], scaled_scores, atol=1e-4)
