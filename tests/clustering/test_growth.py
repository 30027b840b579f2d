"""Clusters that grow, scores that can be compared, and samples at unit length."""

import numpy as np
import pytest
from sklearn.base import clone

from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering.detectors import (
    own_scores,
    train_comparable_detectors,
    train_detectors,
)
from keras_ctxattr.clustering.metrics import coverage, purity
from keras_ctxattr.clustering.rows import Rows
from keras_ctxattr.clustering.stages import Halves, grow_across
from tests.clustering.test_clustering import WORLD, make_concepts
from tests.clustering.test_merging import as_rows

SOLVER = {"C": 0.01, "cache_bytes": 1 << 24, "seed": 0}


@pytest.fixture(scope="module")
def fitted():
    vectors, concepts = make_concepts()
    clustering = DiscriminativeClustering(num_growths=2, normalize=True)
    return clustering.fit(vectors, WORLD), vectors, concepts


@pytest.fixture(scope="module")
def samples():
    """Samples of four concepts of unequal number, their concept, and a world with mean 0."""
    generator = np.random.default_rng(3)
    concepts = np.repeat(np.arange(4), [40, 20, 10, 30])
    centres = generator.standard_normal((4, 8))
    vectors = centres[concepts] + 0.8 * generator.standard_normal((len(concepts), 8))
    world = generator.standard_normal((200, 8))
    world = np.concatenate([world, -world])
    return vectors.astype(np.float32), concepts, world.astype(np.float32)


def rows_of(concepts, sizes=None):
    members = [np.flatnonzero(concepts == number) for number in range(concepts.max() + 1)]
    return [rows[:size] for rows, size in zip(members, sizes or [None] * 4, strict=True)]


def test_members_score_one_in_the_mean_and_the_world_as_far_below_0(samples):
    vectors, concepts, world = samples
    members = rows_of(concepts)
    weights = train_comparable_detectors(members, as_rows(vectors), as_rows(world), **SOLVER)
    scores = vectors @ weights[:, :-1].T + weights[:, -1]
    inside = np.array([scores[rows, number].mean() for number, rows in enumerate(members)])
    outside = (world @ weights[:, :-1].T + weights[:, -1]).mean(axis=0)
    np.testing.assert_allclose(inside, -outside, atol=1e-5)
    np.testing.assert_allclose(inside.mean(), 1, atol=1e-5)
    # They are the same SVMs, which number of members and unit alone tell apart.
    plain = train_detectors(members, as_rows(vectors), as_rows(world), **SOLVER)
    cosines = (plain[:, :-1] * weights[:, :-1]).sum(axis=1) / (
        np.linalg.norm(plain[:, :-1], axis=1) * np.linalg.norm(weights[:, :-1], axis=1)
    )
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_for_small_c_the_highest_score_is_that_of_the_nearest_mean(samples):
    vectors, concepts, world = samples
    members = rows_of(concepts, sizes=[40, 5, 3, 11])
    weights = train_comparable_detectors(
        members, as_rows(vectors), as_rows(world), **{**SOLVER, "C": 1e-6}
    )
    means = np.stack([vectors[rows].mean(axis=0) for rows in members])
    probes = np.concatenate([vectors, world])
    nearest = np.linalg.norm(probes[:, None] - means, axis=2).argmin(axis=1)
    found = (probes @ weights[:, :-1].T + weights[:, -1]).argmax(axis=1)
    assert np.mean(found == nearest) > 0.99
    assert len(np.unique(nearest)) == 4


def test_members_that_are_there_four_times_do_not_raise_a_score(samples):
    """Scores in proportion to the number of members let large clusters eat the small ones."""
    vectors, concepts, world = samples
    once = rows_of(concepts, sizes=[10, 10, 10, 10])
    solver = {**SOLVER, "C": 1e-6}
    both = [
        train_comparable_detectors(members, as_rows(vectors), as_rows(world), **solver)
        for members in (once, [np.tile(once[0], 4), *once[1:]])
    ]
    np.testing.assert_allclose(both[1], both[0], rtol=0.02, atol=0.02)


def test_own_scores_are_read_in_parts(monkeypatch, samples):
    vectors, concepts, _ = samples
    weights = np.random.default_rng(0).standard_normal((4, 9))
    monkeypatch.setattr("keras_ctxattr.clustering.detectors.CHUNK", 7)
    scores = vectors.astype(np.float64) @ weights[:, :-1].T + weights[:, -1]
    expected = scores[np.arange(len(concepts)), concepts]
    np.testing.assert_allclose(own_scores(weights, vectors, concepts), expected, atol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_the_other_half_is_shared_out(samples, side):
    vectors, concepts, world = samples
    places = [np.arange(len(vectors))[half::2] for half in (0, 1)]
    halves = Halves(
        discovery=[as_rows(vectors).select(half) for half in places],
        world=[as_rows(world), as_rows(world)],
        validation=as_rows(vectors[:0]),
    )
    members = rows_of(concepts[places[side]], sizes=[3, 3, 3, 3])
    grown = grow_across(members, halves, side, min_size=6, max_size=8, num_scored=2, solver=SOLVER)
    own, other = (vectors[places[half]] for half in (side, 1 - side))
    weights = train_comparable_detectors(members, as_rows(own), as_rows(world), **SOLVER)
    scores = other @ weights[:, :-1].T + weights[:, -1]
    expected = []
    for number in range(4):
        share = [row for row in range(len(other)) if scores[row].argmax() == number]
        ranked = sorted(share, key=lambda row: -scores[row, number])
        if len(ranked) >= 6:
            expected.append((number, ranked[:8], scores[ranked[:2], number].mean()))
    assert expected and max(len(ranked) for _, ranked, _ in expected) == 8
    np.testing.assert_array_equal(grown.kept, [number for number, _, _ in expected])
    for found, (_, ranked, _) in zip(grown.members, expected, strict=True):
        np.testing.assert_array_equal(found, ranked)
    np.testing.assert_allclose(grown.scores, [score for *_, score in expected], rtol=1e-4)
    flat = np.concatenate(grown.members)
    assert len(np.unique(flat)) == len(flat)


def test_no_cluster_grows_into_no_cluster():
    nothing = Halves(discovery=[], world=[], validation=as_rows(np.zeros((0, 3))))
    grown = grow_across([], nothing, 0, min_size=3, max_size=5, num_scored=5, solver=SOLVER)
    assert grown.members == [] and len(grown.kept) == len(grown.scores) == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_grown_clusters_hold_more_of_their_concepts_and_nothing_else(normalize):
    generator = np.random.default_rng(0)
    concepts = generator.permutation(np.repeat(np.arange(8), 100))
    centres = 2 * generator.standard_normal((8, 32))
    vectors = centres[concepts] + 2 * generator.standard_normal((800, 32))
    options = {"samples_per_cluster": 10, "normalize": normalize}
    plain = DiscriminativeClustering(**options).fit(vectors)
    grown = DiscriminativeClustering(**options, num_growths=3).fit(vectors)
    assert coverage(grown.labels_) > 0.7 > 0.5 > coverage(plain.labels_)
    assert purity(grown.labels_, concepts) >= max(0.99, purity(plain.labels_, concepts))
    # Each took part in a training: four of a few members, and three of more.
    assert [record["iteration"] for record in grown.history_] == list(range(7))
    largest = [max(len(rows) for rows in one.members_) for one in (plain, grown)]
    assert largest[0] < largest[1] <= 2 * 50


def test_clusters_that_no_sample_is_in_are_dropped(fitted):
    """scikit-learn's labels have no gaps."""
    clustering, vectors, _ = fitted
    assigned, scores = clustering.assign(vectors)
    best = [scores[assigned == number].max() for number in range(len(clustering.members_))]
    middle = float(np.median(best)) + 1e-4
    strict = clone(clustering).set_params(decision_threshold=middle).fit(vectors, WORLD)
    assert strict.num_empty_ == np.sum(np.array(best) <= middle) > 1
    assert len(strict.members_) + strict.num_empty_ == len(clustering.members_)
    assert set(strict.labels_) == {-1, *range(len(strict.members_))}
    assert len(strict.members_) == len(strict.scores_) == len(strict.classifiers_)
    assert (np.diff(strict.scores_) <= 0).all()
    np.testing.assert_array_equal(strict.predict(vectors), strict.labels_)


def test_about_three_quarters_of_the_members_are_in_their_cluster(fitted):
    clustering, _, _ = fitted
    held = np.concatenate(
        [clustering.labels_[rows] == number for number, rows in enumerate(clustering.members_)]
    )
    assert 0.6 < held.mean() < 0.95


def test_a_grown_fit_is_the_same_twice_and_labels_are_what_predict_gives(fitted):
    clustering, vectors, _ = fitted
    again = clone(clustering).fit(vectors, WORLD)
    np.testing.assert_array_equal(again.labels_, clustering.labels_)
    np.testing.assert_array_equal(again.classifiers_, clustering.classifiers_)
    np.testing.assert_array_equal(clustering.predict(vectors), clustering.labels_)
    scores = clustering.decision_function(vectors)
    assigned, highest = clustering.assign(vectors)
    np.testing.assert_array_equal(assigned, scores.argmax(axis=1))
    np.testing.assert_allclose(highest, scores.max(axis=1), atol=1e-5)


def test_at_unit_length_the_distance_from_the_mean_says_nothing(fitted):
    clustering, vectors, _ = fitted
    far = clustering.mean_ + 10 * (vectors.astype(np.float64) - clustering.mean_)
    np.testing.assert_allclose(
        clustering.decision_function(far), clustering.decision_function(vectors), atol=1e-4
    )
    unequal = DiscriminativeClustering().fit(vectors, WORLD)
    assert not np.allclose(
        unequal.decision_function(far), unequal.decision_function(vectors), atol=0.1
    )


def test_rows_at_unit_length_and_the_mean_itself():
    table = np.array([[3, 4, 7], [0, 0, 7], [1e-30, 0, 7]], np.float32)
    rows = Rows(table=table, numbers=np.arange(3), mean=np.float32([0, 0, 7]), scale=None)
    np.testing.assert_allclose(rows[:2], [[0.6, 0.8, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(rows[0], [0.6, 0.8, 0], rtol=1e-6)
    assert np.isfinite(rows[:]).all()
    weights = np.ones((2, 4), np.float32)
    assert rows.unscale(weights) is weights
