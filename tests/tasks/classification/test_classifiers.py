"""Classifiers against scikit-learn on the features as they are, and plain restatements."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from keras_ctxattr.tasks.classification.classifiers import (
    NUM_NEIGHBOURS,
    PENALTIES,
    choose_penalty,
    classify_by_neighbours,
    classify_by_probe,
    classify_by_svm,
    scale_features,
    span_coordinates,
)
from keras_ctxattr.tasks.classification.protocol import Draw
from keras_ctxattr.tasks.classification.scoring import (
    _prepare,
    score_draw,
    summarize,
    summarize_gain,
    summarize_scores,
)


def samples(count=60, num_features=200, noise=1.0, seed=0):
    """Gives features and labels of 4 classes; more features than samples."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    centres = generator.normal(size=(4, num_features))
    vectors = centres[labels] + noise * 4 * generator.normal(size=(count, num_features))
    return 3 + vectors.astype(np.float32), labels


def svm_scores(train, labels, test, penalty):
    model = LinearSVC(C=penalty, dual=True, tol=1e-8, max_iter=100_000, random_state=0)
    return model.fit(train, labels).decision_function(test)


# --- Scales and coordinates ---


def test_length_takes_the_mean_of_the_training_part_and_divides_by_lengths():
    vectors, _ = samples()
    train, test = scale_features(vectors[:40], vectors[40:])
    mean = vectors[:40].astype(np.float64).mean(axis=0)
    for row in range(20):
        expected = vectors[40 + row] - mean
        np.testing.assert_allclose(test[row], expected / np.sqrt((expected**2).sum()), rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(train, axis=1), 1)


def test_standard_is_that_of_scikit_learn_and_leaves_out_what_never_changes():
    vectors = samples()[0].astype(np.float64)
    vectors[:40, 5] = 2
    train, test = scale_features(vectors[:40], vectors[40:], "standard")
    fitted = StandardScaler().fit(vectors[:40])
    others = np.arange(200) != 5
    np.testing.assert_allclose(train[:, others], fitted.transform(vectors[:40])[:, others])
    np.testing.assert_allclose(test[:, others], fitted.transform(vectors[40:])[:, others])
    assert not train[:, 5].any() and not test[:, 5].any()


def test_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match=r"must be one of length, standard. Received: none"):
        scale_features(np.ones([2, 2]), np.ones([2, 2]), "none")


def test_coordinates_keep_all_products_with_training_vectors():
    vectors, _ = samples()
    vectors[7] = vectors[3]  # the same photograph twice
    train, test = scale_features(vectors[:40], vectors[40:])
    coordinates, others = span_coordinates(train, test)
    assert coordinates.shape == (40, 40) and others.shape == (20, 40)
    np.testing.assert_allclose(coordinates @ coordinates.T, train @ train.T, atol=3e-6)
    np.testing.assert_allclose(others @ coordinates.T, test @ train.T, atol=1e-9)


def test_few_dimensions_are_left_alone():
    vectors, _ = samples(num_features=10)
    train, test = span_coordinates(vectors[:40], vectors[40:])
    assert train is not None and train.shape == (40, 10)
    np.testing.assert_array_equal(test, vectors[40:])


# --- Classifiers ---


@pytest.mark.parametrize("penalty", PENALTIES)
def test_an_svm_of_coordinates_is_that_of_the_features(penalty):
    vectors, labels = samples()
    train, test = scale_features(vectors[:40], vectors[40:])
    known, asked = span_coordinates(train, test)
    expected = svm_scores(train, labels[:40], test, penalty)
    np.testing.assert_allclose(
        svm_scores(known, labels[:40], asked, penalty), expected, atol=1e-4, rtol=1e-4
    )
    found = classify_by_svm(known, labels[:40], asked, penalty=penalty)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))


def test_a_probe_of_coordinates_is_that_of_the_features():
    vectors, labels = samples()
    train, test = scale_features(vectors[:40], vectors[40:])
    model = LogisticRegression(C=100.0, tol=1e-8, max_iter=10_000).fit(train, labels[:40])
    known, asked = span_coordinates(train, test)
    found = classify_by_probe(known, labels[:40], asked)
    np.testing.assert_array_equal(found, model.predict(test))


def plain_neighbours(train, labels, test, count):
    found = []
    for one in test:
        cosines = [one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in train]
        nearest = np.argsort(cosines)[::-1][:count]
        votes = [
            (sum(labels[nearest] == kind), sum(np.array(cosines)[nearest][labels[nearest] == kind]))
            for kind in range(4)
        ]
        found.append(max(range(4), key=lambda kind: votes[kind]))
    return found


def test_neighbours_are_those_of_a_plain_loop():
    vectors, labels = samples(count=100, num_features=20, noise=0.6)
    train, test = vectors[:60] - 3, vectors[60:] - 3
    expected = plain_neighbours(train, labels[:60], test, 5)
    assert classify_by_neighbours(train, labels[:60], test, count=5).tolist() == expected
    # The samples tell other rules from this one.
    for count in (1, 3):
        assert plain_neighbours(train, labels[:60], test, count) != expected
    lengths = np.linalg.norm(test[:, None] - train, axis=2).argsort(axis=1)[:, :5]
    by_length = [np.bincount(labels[:60][rows], minlength=4).argmax() for rows in lengths]
    assert by_length != expected


def test_more_neighbours_than_samples_are_all_of_them():
    found = classify_by_neighbours(np.eye(3), np.array([0, 1, 1]), np.eye(3), count=9)
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_the_penalty_is_the_best_on_three_parts_of_the_training_part(seed):
    vectors, labels = samples(count=40, noise=0.8, seed=seed)
    train, _ = scale_features(vectors, vectors[:1])
    right = dict.fromkeys(PENALTIES, 0)
    for kept, asked in StratifiedKFold(3, shuffle=True, random_state=0).split(train, labels):
        for penalty in PENALTIES:
            scores = svm_scores(train[kept], labels[kept], train[asked], penalty)
            right[penalty] += (scores.argmax(axis=1) == labels[asked]).sum()
    assert choose_penalty(train, labels) == min(
        penalty for penalty in PENALTIES if right[penalty] == max(right.values())
    )


def test_one_example_of_a_class_leaves_the_papers_penalty():
    assert choose_penalty(np.eye(3), np.array([0, 1, 2])) == 0.1


# --- Scores ---


def plain_accuracy(vectors, labels, train, test, classify):
    """Scales by the training part alone, classifies, and gives (mean over classes, over all)."""
    mean = vectors[train].astype(np.float64).mean(axis=0)
    known, asked = vectors[train] - mean, vectors[test] - mean
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    right = classify(known, labels[train], asked) == labels[test]
    return np.mean([right[labels[test] == kind].mean() for kind in range(4)]), right.mean()


def svm_of(penalty):
    return lambda known, classes, asked: svm_scores(known, classes, asked, penalty).argmax(axis=1)


def probe_of(known, classes, asked):
    model = LogisticRegression(C=100.0, tol=1e-8, max_iter=10_000)
    return model.fit(known, classes).predict(asked)


def test_scores_are_those_of_a_plain_restatement():
    """On samples hard enough that a leak, another C or another mean would be seen."""
    vectors, labels = samples(count=90, noise=1.2)
    draw = Draw(np.arange(40), np.array([*range(40, 52), *range(56, 80, 4)]))  # class 0 more often
    scores = score_draw([vectors], labels, draw, shots=(1, 4))
    rows = vectors, labels, draw.train, draw.test
    expected, overall = plain_accuracy(*rows, svm_of(0.1))
    assert abs(expected - overall) > 0.01
    assert scores.accuracies["svm"] == pytest.approx(expected)
    assert scores.accuracies["probe"] == pytest.approx(plain_accuracy(*rows, probe_of)[0])
    chosen = plain_accuracy(*rows, svm_of(scores.penalty))[0]
    assert scores.accuracies["svm_cv"] == pytest.approx(chosen)
    nearest = plain_accuracy(
        *rows, lambda *given: np.array(plain_neighbours(*given, NUM_NEIGHBOURS))
    )
    assert scores.accuracies["knn"] == pytest.approx(nearest[0])
    for count, found in scores.low_shot.items():
        first = draw.first(labels, count)
        assert len(first) == 4 * count
        few = plain_accuracy(vectors, labels, first, draw.test, svm_of(0.1))[0]
        assert found == pytest.approx(few)
    assert scores.low_shot[1] != scores.low_shot[4] != scores.accuracies["svm"]


def test_what_cannot_be_learnt_is_not_and_what_is_given_away_is():
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 4
    draw = Draw(np.arange(40), np.arange(40, 80))
    noise = score_draw([generator.normal(size=(80, 300))], labels, draw)
    given = score_draw([np.eye(4)[labels] + 0.01 * generator.normal(size=(80, 4))], labels, draw)
    assert all(value < 0.55 for value in noise.accuracies.values())
    assert all(value == 1 for value in given.accuracies.values())


def test_test_labels_do_not_reach_the_classifiers():
    vectors, labels = samples(noise=0.5)
    draw = Draw(np.arange(40), np.arange(40, 60))
    other = labels.copy()
    other[40:] = (other[40:] + 1) % 4
    one, two = (score_draw([vectors], some, draw) for some in (labels, other))
    assert one.penalty == two.penalty
    assert one.accuracies["svm"] > 0.5 > two.accuracies["svm"]


def test_a_low_shot_curve_ends_where_all_examples_are_used():
    vectors, labels = samples(noise=0.5)
    draw = Draw(np.arange(32), np.arange(40, 60))
    scores = score_draw([vectors], labels, draw, classifiers=["svm"], shots=(8,))
    assert scores.low_shot[8] == scores.accuracies["svm"]
    assert scores.penalty is None and list(scores.accuracies) == ["svm"]


def test_layers_side_by_side_weigh_the_same():
    """Products of rows side by side are the mean of the layers' own, whatever their scales."""
    one, _ = samples(count=60)
    other, _ = samples(count=60, num_features=90, seed=5)
    train, test = np.arange(32), np.arange(40, 60)
    alone = []
    for block in (one, other):
        known, asked = scale_features(block[train], block[test])
        alone.append(np.vstack([known, asked]) @ known.T)
    assert abs(alone[0] - alone[1]).max() > 0.1
    known, asked = _prepare([one, 1000 * other], train, test, "length")
    found = np.vstack([known, asked]) @ known.T
    np.testing.assert_allclose(found, (alone[0] + alone[1]) / 2, atol=3e-6)


def test_gains_are_of_pairs_of_draws():
    figures = summarize([0.2, 0.4])
    assert (figures["mean"], figures["std"]) == pytest.approx((0.3, np.sqrt(0.02)))
    assert figures["draws"] == [0.2, 0.4] and summarize([0.2])["std"] is None
    vectors, labels = samples(noise=0.5)
    draws = [Draw(np.arange(n, n + 32), np.arange(40, 60)) for n in range(2)]
    learnt, untrained = (
        summarize_scores([score_draw([some], labels, draw, classifiers=["knn"]) for draw in draws])
        for some in (vectors, vectors[:, :3])
    )
    gain = summarize_gain(learnt, untrained)["knn"]
    pairs = [
        one - other
        for one, other in zip(
            learnt["accuracy"]["knn"]["draws"], untrained["accuracy"]["knn"]["draws"], strict=True
        )
    ]
    assert gain["draws"] == pytest.approx(pairs) and gain["mean"] == pytest.approx(np.mean(pairs))
