"""Discriminative clustering and k-means as scikit-learn estimators."""

import copy
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator

from keras_ctxattr.clustering import DiscriminativeClustering, KMeansClustering
from keras_ctxattr.clustering.detectors import best_cluster, fire, reproducibility
from tests.clustering.test_merging import as_rows

ESTIMATORS = {
    "discriminative": lambda: DiscriminativeClustering(),
    "grown": lambda: DiscriminativeClustering(num_growths=2, normalize=True),
    "k-means": lambda: KMeansClustering(3),
}


def make_concepts(num_concepts=6, size=60, num_noise=600, num_features=24, seed=0):
    """Samples of a few compact concepts in much noise, and the concept of each (-1: noise)."""
    generator = np.random.default_rng(seed)
    centres = 3 * generator.standard_normal((num_concepts, num_features))
    concepts = np.repeat(np.arange(num_concepts), size)
    compact = centres[concepts] + 0.5 * generator.standard_normal((len(concepts), num_features))
    noise = 2 * generator.standard_normal((num_noise, num_features))
    order = generator.permutation(len(concepts) + num_noise)
    vectors = np.concatenate([compact, noise])[order].astype(np.float32)
    return vectors, np.concatenate([concepts, np.full(num_noise, -1)])[order]


def cluster_quietly(estimator, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*arguments, **options)


WORLD = 2 * np.random.default_rng(5).standard_normal((800, 24)).astype(np.float32)
"""A natural world in which the concepts do not occur."""


@pytest.fixture(scope="module")
def fitted():
    vectors, concepts = make_concepts()
    return DiscriminativeClustering().fit(vectors, WORLD), vectors, concepts


def test_clusters_are_the_concepts_and_noise_is_in_none(fitted):
    clustering, _, concepts = fitted
    labels = clustering.labels_
    found = [concepts[rows] for rows in clustering.members_]
    assert {int(np.bincount(held + 1).argmax()) - 1 for held in found} >= set(range(1, 6))
    assert all(np.bincount(held + 1).max() / len(held) > 0.8 for held in found)
    assert np.mean(labels[concepts == -1] == -1) > 0.95
    # The threshold is what the least of the members reach, so about half of a concept exceeds it.
    assert np.mean(labels[concepts >= 0] >= 0) > 0.3
    for label in np.unique(labels[labels >= 0]):
        held = concepts[labels == label]
        assert np.bincount(held + 1).max() / len(held) > 0.8


def test_labels_are_what_predict_gives_and_what_the_scores_say(fitted):
    clustering, vectors, _ = fitted
    scores = clustering.decision_function(vectors)
    best = scores.argmax(axis=1)
    expected = np.where(scores.max(axis=1) > 0, best, -1)
    # Rounding may turn a score of about 0 either way.
    sure = np.abs(scores.max(axis=1)) > 1e-3
    np.testing.assert_array_equal(clustering.labels_[sure], expected[sure])
    np.testing.assert_array_equal(clustering.predict(vectors), clustering.labels_)
    assert clustering.labels_.dtype == np.int32
    assigned, highest = clustering.assign(vectors)
    np.testing.assert_array_equal(assigned, best)
    np.testing.assert_allclose(highest, scores.max(axis=1), rtol=1e-5, atol=1e-5)
    assert (assigned.dtype, highest.dtype) == (np.int32, np.float32)


def test_a_higher_threshold_takes_samples_out_of_clusters_and_moves_none(fitted):
    clustering, vectors, _ = fitted
    assigned, highest = clustering.assign(vectors)
    for threshold in (-0.2, 0.0, 0.2, np.inf):
        other = copy.copy(clustering).set_params(decision_threshold=threshold)
        np.testing.assert_array_equal(
            other.predict(vectors), np.where(highest > threshold, assigned, -1)
        )


def test_clusters_are_ranked_by_their_held_out_scores(fitted):
    clustering, _, _ = fitted
    assert (np.diff(clustering.scores_) <= 0).all()
    assert len(clustering.scores_) == len(clustering.members_) == len(clustering.classifiers_)


def test_a_seeded_fit_is_the_same_twice(fitted):
    clustering, vectors, _ = fitted
    again = clone(clustering).fit(vectors, WORLD)
    np.testing.assert_array_equal(again.labels_, clustering.labels_)
    np.testing.assert_array_equal(again.classifiers_, clustering.classifiers_)
    other = DiscriminativeClustering(random_state=1).fit(vectors, natural_world=WORLD)
    assert not np.array_equal(other.labels_, clustering.labels_)


def test_shifting_and_scaling_all_features_changes_no_label(fitted):
    clustering, vectors, _ = fitted
    moved = DiscriminativeClustering().fit(100 + 8 * vectors, 100 + 8 * WORLD)
    assert np.mean(moved.labels_ == clustering.labels_) > 0.99


def test_the_number_of_features_alone_changes_no_label(fitted):
    """Unit variance a feature made classifiers of many features single out their members.

    Features that are there four times say nothing new; once the samples are four times as long (in
    squares), the losses outweigh the weights as if `C` were four times as large.
    """
    clustering, vectors, _ = fitted
    repeated = DiscriminativeClustering().fit(np.tile(vectors, 4), np.tile(WORLD, 4))
    assert np.mean(repeated.labels_ == clustering.labels_) > 0.99
    np.testing.assert_allclose(
        repeated.decision_function(np.tile(vectors, 4)),
        clustering.decision_function(vectors),
        atol=0.02,
    )


def test_a_table_on_the_disk_gives_the_labels_of_the_array(fitted, tmp_path):
    clustering, vectors, _ = fitted
    np.save(tmp_path / "vectors.npy", vectors)
    table = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    again = DiscriminativeClustering().fit(table, WORLD)
    np.testing.assert_array_equal(again.labels_, clustering.labels_)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_mapped_file_of_half_precision_is_read_in_parts(tmp_path, monkeypatch, normalize):
    """All of it was once converted in memory, however large."""
    vectors = make_concepts()[0].astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    table = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    options = {"normalize": normalize, "num_growths": 1}
    expected = DiscriminativeClustering(**options).fit(vectors.astype(np.float32), WORLD)
    monkeypatch.setattr("keras_ctxattr.clustering.discriminative.validate_data", None)
    found = DiscriminativeClustering(**options).fit(table, WORLD)
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    np.testing.assert_array_equal(found.predict(table), expected.labels_)
    with pytest.raises(ValueError, match="X has 24 features"):
        narrow = copy.copy(found)
        narrow.n_features_in_ = 3
        narrow.predict(table)


def test_fewer_negatives_are_drawn_from_each_half_and_find_the_concepts(monkeypatch):
    from keras_ctxattr.clustering import stages

    vectors, concepts = make_concepts()
    seen = []
    train = stages.train_detectors
    monkeypatch.setattr(
        stages,
        "train_detectors",
        lambda members, rows, world, **solver: (
            seen.append(world.numbers) or train(members, rows, world, **solver)
        ),
    )
    all_ = DiscriminativeClustering().fit(vectors, WORLD)
    many = DiscriminativeClustering(max_negatives=400).fit(vectors, WORLD)
    np.testing.assert_array_equal(many.labels_, all_.labels_)  # there are no more
    halves = seen[:2]
    seen.clear()
    few = DiscriminativeClustering(max_negatives=150).fit(vectors, WORLD)
    for half, drawn in zip(halves, seen[:2], strict=True):
        assert len(half) == 400 and len(drawn) == len(set(drawn)) == 150
        assert set(drawn) < set(half) and (np.diff(drawn) > 0).all()
        assert drawn.max() > half[300]  # from all of it, not its beginning
    shares = [np.bincount(concepts[rows] + 1).max() / len(rows) for rows in few.members_]
    assert np.mean(shares) > 0.8


def test_little_memory_gives_nearly_the_same_clusters(fitted):
    _, vectors, concepts = fitted
    little = DiscriminativeClustering(cache_bytes=300 * 24 * 4).fit(vectors, WORLD)
    for rows in little.members_:
        assert np.bincount(concepts[rows] + 1).max() / len(rows) > 0.8


def test_what_the_natural_world_holds_as_well_is_no_cluster():
    vectors, concepts = make_concepts(num_concepts=2)
    common = vectors[concepts == 0]
    world = np.concatenate([common, common + 0.01, vectors[concepts == -1]])
    clustering = DiscriminativeClustering().fit(vectors[concepts != -1][::-1], world)
    ours = concepts[concepts != -1][::-1]
    assert (ours[clustering.members_[0]] == 1).all()
    assert (ours[clustering.labels_ == 0] == 1).all()
    scores = [
        s
        for s, rows in zip(clustering.scores_, clustering.members_, strict=True)
        if ours[rows[0]] == 0
    ]
    assert clustering.scores_[0] > 0.3 + max(scores, default=-1)


def test_samples_of_one_group_are_on_one_side():
    """Ten copies of one image's patch are no concept: nothing in the other half confirms them."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((800, 16)).astype(np.float32)
    vectors[:12] = 4 * generator.standard_normal(16) + 0.01 * vectors[:12]
    groups = np.arange(800)
    groups[:12] = 0
    # -0.3: above the scores of noise, below those of copies.
    options = {"firing_threshold": -0.3, "validation_share": 0.0}

    def holds_copies(seed, groups):
        clustering = DiscriminativeClustering(random_state=seed, **options)
        cluster_quietly(clustering, vectors, groups=groups)
        return any(np.sum(rows < 12) >= 4 for rows in clustering.members_)

    assert not any(holds_copies(seed, groups) for seed in range(6))
    assert any(holds_copies(seed, None) for seed in range(6))


def test_reports_tell_every_training(fitted):
    _, vectors, _ = fitted
    told = []
    clustering = DiscriminativeClustering(num_iterations=2)
    clustering.fit(vectors, WORLD, report=told.append)
    assert told == clustering.history_
    assert [record["iteration"] for record in told] == [0, 1, 2]
    assert all(record["num_kept"] <= record["num_trained"] for record in told)


def test_compact_concepts_fire_more_reproducibly_than_noise(fitted):
    clustering, _, _ = fitted
    noise = np.random.default_rng(0).standard_normal((960, 24)).astype(np.float32)
    without = cluster_quietly(DiscriminativeClustering(), noise, WORLD)
    assert clustering.firing_precision_ > without.firing_precision_ + 0.1


def test_no_surviving_cluster_is_a_warning_and_no_label():
    vectors, _ = make_concepts()
    strict = DiscriminativeClustering(firing_threshold=50.0)
    with pytest.warns(ConvergenceWarning, match="No cluster survived"):
        strict.fit(vectors)
    assert (strict.labels_ == -1).all() and strict.members_ == []
    assert strict.decision_function(vectors).shape == (len(vectors), 0)
    assert (strict.predict(vectors) == -1).all()
    assigned, scores = strict.assign(vectors)
    assert (assigned == -1).all() and np.isneginf(scores).all()


# ---- the pieces ---------------------------------------------------------------------------------


def test_firing_reads_in_parts_and_finds_the_highest_of_all(monkeypatch):
    from keras_ctxattr.clustering import rows as rows_module

    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((500, 4)).astype(np.float32)
    weights = generator.standard_normal((3, 5)).astype(np.float32)
    scores = vectors @ weights[:, :-1].T + weights[:, -1]
    expected = np.argsort(-scores, axis=0, kind="stable")[:7]
    monkeypatch.setattr(rows_module, "CHUNK", 64)
    places, found = fire(weights, as_rows(vectors), 7)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(found, np.take_along_axis(scores, expected, axis=0), rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 8192])
def test_best_cluster_is_that_of_the_highest_score_however_low(monkeypatch, chunk):
    from keras_ctxattr.clustering import detectors

    monkeypatch.setattr(detectors, "CHUNK", chunk)
    weights = np.array([[1, 0, 0], [0, 1, 0.5]], np.float32)
    table = np.array([[2, 1], [1, 2], [-1, -2], [0.75, 0.25]], np.float32)
    labels, scores = best_cluster(weights, table)
    assert labels.tolist() == [0, 1, 0, 0]  # of equal scores the first
    assert scores.tolist() == [2, 2.5, -1, 0.75]
    assert (labels.dtype, scores.dtype) == (np.int32, np.float32)


def test_many_classifiers_are_fired_some_at_a_time(monkeypatch):
    """Scores of a chunk of rows by all classifiers took gigabytes where those were many."""
    from keras_ctxattr.clustering import detectors

    generator = np.random.default_rng(0)
    vectors = generator.integers(-2, 3, (300, 3)).astype(np.float32)  # with equal scores
    weights = generator.integers(-2, 3, (11, 4)).astype(np.float32)
    scores = vectors @ weights[:, :-1].T + weights[:, -1]
    assert (np.sort(scores, axis=1)[:, -1] == np.sort(scores, axis=1)[:, -2]).any()
    sizes = []
    decide = detectors.decide
    monkeypatch.setattr(detectors, "COLUMNS", 4)
    monkeypatch.setattr(
        detectors, "decide", lambda w, v: sizes.append(len(w)) or decide(w, v), raising=True
    )
    labels, highest = best_cluster(weights, vectors)
    np.testing.assert_array_equal(labels, scores.argmax(axis=1))
    np.testing.assert_array_equal(highest, scores.max(axis=1))
    vectors += 0.1 * generator.standard_normal(vectors.shape)
    scores = vectors @ weights[:, :-1].T + weights[:, -1]
    places, found = fire(weights[1:], as_rows(vectors), 6)
    expected = np.argsort(-scores, axis=0, kind="stable")[:6, 1:]
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(found, np.sort(scores, axis=0)[:-7:-1, 1:], rtol=1e-4, atol=1e-5)
    assert sizes == [4, 4, 3, 4, 4, 2]


def test_without_classifiers_no_cluster_is_best():
    labels, scores = best_cluster(np.zeros((0, 3), np.float32), np.ones((4, 2), np.float32))
    assert labels.tolist() == [-1] * 4
    assert scores.tolist() == [-np.inf] * 4


def test_reproducibility_is_the_share_of_highest_rows_in_common():
    vectors = np.eye(10, dtype=np.float32)
    first = np.zeros((1, 11), np.float32)
    second = first.copy()
    first[0, :4], second[0, 2:6] = [4, 3, 2, 1], [4, 3, 2, 1]
    assert reproducibility(first, second, as_rows(vectors), 4) == 0.5


# ---- the contract of scikit-learn ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_scikit_learns_own_checks(kind):
    failed = []
    for estimator, check in estimator_checks_generator(ESTIMATORS[kind]()):
        name = getattr(check, "func", check).__name__
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(estimator)
        except Exception as error:  # every failing check is named, not only the first
            if type(error).__name__ not in ("SkipTest", "Skipped"):
                failed.append(f"{name}: {error}")
    assert not failed, failed


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_shared_contract(kind):
    vectors, _ = make_concepts(num_noise=100)
    estimator = ESTIMATORS[kind]()
    with pytest.raises(NotFittedError):
        estimator.predict(vectors)
    assert cluster_quietly(estimator, vectors) is estimator
    assert estimator.labels_.dtype == np.int32 and estimator.labels_.shape == (len(vectors),)
    assert estimator.predict(vectors[:7]).dtype == np.int32
    assert estimator.decision_function(vectors).shape == (len(vectors), len(estimator.members_))
    scores = estimator.decision_function(vectors)
    for number, rows in enumerate(estimator.members_[:3]):
        others = np.setdiff1d(np.arange(len(vectors)), rows)
        assert np.median(scores[rows, number]) > np.quantile(scores[others, number], 0.9)
    assert clone(estimator).get_params() == estimator.get_params()


# ---- bad and degenerate input --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples_per_cluster": 0}, "at least 1"),
        ({"max_size": 2}, "`max_size` must be at least `min_size`"),
        ({"num_candidates": 3}, "at least `num_members`"),
        ({"validation_share": 1.0}, "[0, 1)"),
        ({"num_growths": -1}, "at least 0"),
        ({"grown_size": 0}, "at least 1"),
        ({"max_negatives": 0}, "`max_negatives` must be at least 1, or None"),
    ],
)
def test_bad_parameters_are_one_line_with_what_came(options, words):
    with pytest.raises(ValueError) as caught:
        DiscriminativeClustering(**options).fit(make_concepts()[0])
    assert words in str(caught.value) and "Received" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones((100, 5)), "must differ from one another"),
        (np.ones((1, 5)), "minimum of 2 is required"),
        (np.eye(3), "two halves"),
        (np.where(np.arange(500).reshape(100, 5) == 77, np.nan, 1.0), "NaN"),
        (np.zeros((10, 0)), "0 feature"),
    ],
    ids=["equal", "one", "three", "nan", "no features"],
)
@pytest.mark.parametrize("kind", ["discriminative", "grown"])
def test_degenerate_samples_are_a_clear_error(kind, vectors, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        ESTIMATORS[kind]().fit(vectors)


def test_the_discovery_set_cannot_be_its_own_natural_world():
    vectors, _ = make_concepts()
    with pytest.raises(ValueError, match="other samples than `X`"):
        DiscriminativeClustering().fit(vectors, vectors.copy())


def test_other_features_in_the_natural_world_are_named():
    vectors, _ = make_concepts()
    with pytest.raises(ValueError, match="the 24 features of `X`"):
        DiscriminativeClustering().fit(vectors, vectors[:, :20])


@pytest.mark.parametrize("kind", ["discriminative", "grown"])
def test_fewer_samples_than_a_cluster_needs_give_no_cluster(kind):
    few = np.random.default_rng(0).standard_normal((8, 3))
    clustering = cluster_quietly(ESTIMATORS[kind](), few)
    assert (clustering.labels_ == -1).all()
    assert clustering.predict(few).tolist() == [-1] * 8


@pytest.mark.parametrize("kind", ["discriminative", "grown"])
def test_as_many_features_as_samples_and_features_that_do_not_vary(kind):
    square = np.random.default_rng(0).standard_normal((60, 60))
    square[:, 30:] = 7.0
    clustering = cluster_quietly(ESTIMATORS[kind](), square)
    assert np.isfinite(clustering.classifiers_).all()
    np.testing.assert_array_equal(clustering.predict(square), clustering.labels_)


def test_features_of_zero_variance_change_nothing(fitted):
    clustering, vectors, _ = fitted
    padded = np.concatenate([vectors, np.full((len(vectors), 8), 3.0, np.float32)], axis=1)
    world = np.concatenate([WORLD, np.full((len(WORLD), 8), 3.0, np.float32)], axis=1)
    other = DiscriminativeClustering().fit(padded, world)
    assert np.isfinite(other.classifiers_).all()
    assert np.mean(other.labels_ == clustering.labels_) > 0.99


def test_more_clusters_than_samples_are_refused_by_k_means():
    with pytest.raises(ValueError, match="n_samples=4"):
        KMeansClustering(5).fit(np.eye(4))


def test_kmeans_on_the_sphere_is_that_of_centred_unit_vectors():
    vectors = make_concepts()[0]
    centred = vectors - vectors.mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    found = KMeansClustering(4, normalize=True, random_state=3).fit(vectors)
    plain = KMeansClustering(4, random_state=3).fit(units)
    np.testing.assert_array_equal(found.labels_, plain.labels_)
    np.testing.assert_array_equal(found.predict(vectors), found.labels_)


@pytest.mark.parametrize("normalize", [False, True])
def test_kmeans_classifiers_score_the_nearest_centre_highest(normalize):
    vectors = make_concepts()[0]
    found = KMeansClustering(6, normalize=normalize).fit(vectors)
    assigned, scores = found.assign(vectors)
    np.testing.assert_array_equal(assigned, found.labels_)
    distances = -found.decision_function(vectors).max(axis=1)
    lengths = np.ones(len(vectors)) if normalize else np.square(vectors).sum(axis=1)
    np.testing.assert_allclose(2 * scores, lengths - distances**2, rtol=1e-3, atol=1e-3)
    means = [-distances[rows].mean() for rows in found.members_]
    np.testing.assert_allclose(found.scores_, means, rtol=1e-4)
