"""Batched linear SVMs against liblinear, one at a time."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.clustering.svm.problem import (
    Block,
    Tile,
    evaluate,
    line_derivatives,
    margins_at,
    slopes_along,
)
from tests.clustering import plain


def gaps(svms, positives, ids, negatives, C=0.1):
    """How far each cluster's objective lies above liblinear's, relative."""
    found = []
    for number, weights in enumerate(svms.weights):
        members = positives[ids == number]
        least = plain.objective(plain.fit_one(members, negatives, C), members, negatives, C)
        found.append(plain.objective(weights, members, negatives, C) / least - 1)
    return np.array(found)


# ---- by hand ------------------------------------------------------------------------------------


def test_one_positive_against_one_negative_is_the_closed_form():
    """Samples at +1 and -1: bias 0 and w = 2C * 2(1 - w), so w = 4C / (1 + 4C)."""
    svms = fit_linear_svms(np.array([[1.0]]), [0], np.array([[-1.0]]), C=0.1, tolerance=1e-7)
    np.testing.assert_allclose(svms.weights, [[0.4 / 1.4, 0.0]], atol=1e-4)
    assert svms.converged.all()


def test_the_decision_function_is_the_affine_map_of_the_weights():
    positives, ids, negatives = plain.make_clusters()
    svms = fit_linear_svms(positives, ids, negatives)
    scores = svms.decision_function(negatives)
    assert scores.shape == (len(negatives), 6)
    row, cluster = 17, 3
    expected = negatives[row] @ svms.weights[cluster, :-1] + svms.weights[cluster, -1]
    assert scores[row, cluster] == pytest.approx(expected, abs=1e-5)


# ---- against liblinear --------------------------------------------------------------------------

KINDS = {
    "gaussian": lambda rows: rows,
    "large": lambda rows: 30 * rows,
    "unit": lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True),
    "decaying": lambda rows: rows / np.arange(1, rows.shape[1] + 1),
    "positive": lambda rows: np.abs(rows),
    "off centre": lambda rows: rows + 20,
}


@pytest.mark.parametrize("kind", KINDS)
def test_objectives_are_liblinears(kind):
    positives, ids, negatives = plain.make_clusters(num_negatives=900, num_features=30)
    positives, negatives = KINDS[kind](positives), KINDS[kind](negatives)
    svms = fit_linear_svms(positives, ids, negatives)
    found = gaps(svms, positives, ids, negatives)
    assert found.max() < 1e-3 and found.min() > -1e-5
    for number, stated in enumerate(svms.objectives):
        plainly = plain.objective(svms.weights[number], positives[ids == number], negatives)
        assert stated == pytest.approx(plainly, rel=1e-4)
    assert svms.converged.all()


@pytest.mark.parametrize("C", [0.001, 1.0, 100.0])
def test_other_weights_of_the_loss(C):
    positives, ids, negatives = plain.make_clusters(spread=1.5)
    svms = fit_linear_svms(positives, ids, negatives, C=C)
    assert gaps(svms, positives, ids, negatives, C).max() < 1e-3


def test_decisions_on_other_samples_have_liblinears_signs():
    positives, ids, negatives = plain.make_clusters(num_negatives=1500, num_features=40)
    svms = fit_linear_svms(positives, ids, negatives)
    others = plain.make_clusters(num_negatives=4000, num_features=40, seed=1)[2]
    others = np.concatenate([others, positives + 0.5 * others[: len(positives)]])
    signs = svms.decision_function(others) > 0
    agree = []
    for number in range(len(svms.weights)):
        weights = plain.fit_one(positives[ids == number], negatives)
        agree.append(signs[:, number] == (others @ weights[:-1] + weights[-1] > 0))
    assert np.mean(agree) >= 0.999
    assert signs.any() and not signs.all()


def test_more_features_than_samples():
    positives, ids, negatives = plain.make_clusters(num_features=200, num_negatives=60)
    svms = fit_linear_svms(positives, ids, negatives)
    assert gaps(svms, positives, ids, negatives).max() < 1e-3


# ---- laws ---------------------------------------------------------------------------------------


def test_many_clusters_at_once_are_each_alone():
    positives, ids, negatives = plain.make_clusters(num_clusters=9)
    together = fit_linear_svms(positives, ids, negatives, tolerance=1e-6)
    alone = fit_linear_svms(positives[ids == 4], np.zeros(5, int), negatives, tolerance=1e-6)
    np.testing.assert_allclose(together.weights[4], alone.weights[0], atol=2e-3)


def test_clusters_of_different_sizes_are_padded_without_a_trace():
    positives, _, negatives = plain.make_clusters(num_clusters=6, size=5)
    ids = np.repeat([0, 1, 2], [3, 20, 7])
    svms = fit_linear_svms(positives, ids, negatives)
    assert gaps(svms, positives, ids, negatives).max() < 1e-3


def test_the_order_of_samples_changes_nothing():
    positives, ids, negatives = plain.make_clusters()
    order = np.random.default_rng(1).permutation(len(ids))
    svms = fit_linear_svms(positives, ids, negatives, tolerance=1e-6)
    other = fit_linear_svms(positives[order], ids[order], negatives[::-1], tolerance=1e-6)
    np.testing.assert_allclose(svms.weights, other.weights, atol=2e-3)


def test_the_same_call_twice_is_the_same_bit_for_bit():
    positives, ids, negatives = plain.make_clusters()
    first, second = (fit_linear_svms(positives, ids, negatives) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)


ALONE = """
import sys
import numpy as np
from keras_ctxattr.clustering.svm import fit_linear_svms
from tests.clustering import plain

np.save(sys.argv[1], fit_linear_svms(*plain.make_clusters()).weights)
"""


def test_what_was_solved_before_changes_no_bit(tmp_path):
    """Clustering that went on in another process once rounded otherwise.

    `_fit_line` was traced for the shapes that came first, and its terms were added in their order.
    """
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path / "alone.npy")], check=True)
    fit_linear_svms(*plain.make_clusters(num_clusters=9, num_features=21, num_negatives=90))
    after_others = fit_linear_svms(*plain.make_clusters()).weights
    np.testing.assert_array_equal(after_others, np.load(tmp_path / "alone.npy"))


@pytest.mark.parametrize("capacity", [256, 400, 700])
def test_a_cache_smaller_than_the_negatives_gives_the_same_minimum(capacity):
    positives, ids, negatives = plain.make_clusters(num_negatives=1500, num_features=30)
    svms = fit_linear_svms(positives, ids, negatives, cache_bytes=capacity * 30 * 4)
    assert gaps(svms, positives, ids, negatives).max() < 1e-3
    assert svms.converged.all()
    for number, stated in enumerate(svms.objectives):
        plainly = plain.objective(svms.weights[number], positives[ids == number], negatives)
        assert stated == pytest.approx(plainly, rel=1e-3)


class Counting:
    """A table on the disk that remembers the most rows it was asked for at once."""

    def __init__(self, rows):
        self.rows, self.shape, self.most = rows, rows.shape, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, chosen):
        found = self.rows[chosen]
        self.most = max(self.most, len(found))
        return found


def test_negatives_that_do_not_fit_are_never_read_all_at_once():
    positives, ids, negatives = plain.make_clusters(num_negatives=9000, num_features=10)
    table = Counting(negatives)
    svms = fit_linear_svms(positives, ids, table, cache_bytes=2000 * 10 * 4)
    assert table.most <= 4096
    assert gaps(svms, positives, ids, negatives).max() < 1e-3


def test_negatives_that_all_lie_inside_the_margin_need_no_room_in_the_cache():
    """With a small C all are hard: blocks were halved down to single clusters, for minutes."""
    positives, ids, negatives = plain.make_clusters(num_negatives=3000, num_features=30)
    table = Counting(negatives)
    options = {"C": 1e-5, "tolerance": 1e-6}
    small = fit_linear_svms(positives, ids, table, cache_bytes=300 * 30 * 4, **options)
    whole = fit_linear_svms(positives, ids, negatives, **options)
    assert (whole.decision_function(negatives) > -1).all()
    assert table.most <= 2048 and small.converged.all()
    np.testing.assert_allclose(small.objectives, whole.objectives, rtol=1e-4)
    np.testing.assert_allclose(small.weights, whole.weights, atol=1e-3)


def test_excluded_rows_are_no_negatives_of_that_cluster_alone():
    positives, ids, negatives = plain.make_clusters(num_negatives=80)
    excluded = np.array([[70, 2], [3, 2], [3, 5], [41, 0]])
    svms = fit_linear_svms(positives, ids, negatives, excluded=excluded)
    for number in range(6):
        left = np.setdiff1d(np.arange(80), excluded[excluded[:, 1] == number, 0])
        members = positives[ids == number]
        least = plain.objective(plain.fit_one(members, negatives[left]), members, negatives[left])
        found = plain.objective(svms.weights[number], members, negatives[left])
        assert found / least - 1 < 1e-3


def test_excluding_holds_also_where_only_hard_negatives_are_cached():
    positives, ids, negatives = plain.make_clusters(num_negatives=1200, num_features=30)
    excluded = np.stack([np.arange(0, 1200, 3), np.tile(np.arange(4), 100)], axis=1)
    whole = fit_linear_svms(positives, ids, negatives, excluded=excluded)
    parts = fit_linear_svms(positives, ids, negatives, excluded=excluded, cache_bytes=400 * 30 * 4)
    np.testing.assert_allclose(parts.objectives, whole.objectives, rtol=1e-3)


def test_a_far_away_negative_does_not_matter():
    positives, ids, negatives = plain.make_clusters()
    svms = fit_linear_svms(positives, ids, negatives, tolerance=1e-6)
    weights = svms.weights[0, :-1]
    far = -100 * weights / np.linalg.norm(weights)
    more = fit_linear_svms(
        positives[ids == 0],
        np.zeros(5, int),
        np.concatenate([negatives, far[None]]),
        tolerance=1e-6,
    )
    assert more.objectives[0] == pytest.approx(svms.objectives[0], rel=1e-3)


# ---- the pieces ---------------------------------------------------------------------------------


def make_problem():
    positives, ids, negatives = plain.make_clusters(num_clusters=3)
    block = Block(
        ids=np.arange(3),
        positives=tf.constant(positives.reshape(3, 5, -1)),
        valid=tf.ones((3, 5)),
        C=tf.constant(0.1),
    )
    tiles = [
        Tile(
            rows=tf.constant(negatives[start : start + 128]), numbers=np.arange(start, start + 128)
        )
        for start in (0, 128)
    ]
    weights = tf.random.stateless_normal((13, 3), [0, 1])
    return block, tiles, weights, positives, ids, negatives[:256]


def test_the_objective_is_that_of_the_plain_restatement():
    block, tiles, weights, positives, ids, negatives = make_problem()
    values, _, active = evaluate(block, tiles, weights, margins_at(block, tiles, weights))
    for number in range(3):
        column = weights.numpy()[:, number]
        plainly = plain.objective(column, positives[ids == number], negatives)
        assert float(values[number]) == pytest.approx(plainly, rel=1e-5)
        assert int(active[number]) == (negatives @ column[:-1] + column[-1] > -1).sum()


def test_the_gradient_is_that_of_differences():
    block, tiles, weights, *_ = make_problem()

    def total(at):
        return evaluate(block, tiles, at, margins_at(block, tiles, at))[0].numpy().astype(float)

    gradient = evaluate(block, tiles, weights, margins_at(block, tiles, weights))[1].numpy()
    for feature in (0, 5, 12):
        step = np.zeros((13, 3), np.float32)
        step[feature] = 1e-2
        slope = (total(weights + step) - total(weights - step)) / 2e-2
        np.testing.assert_allclose(gradient[feature], slope, rtol=2e-2, atol=2e-2)


def test_derivatives_along_a_line_are_those_of_differences():
    block, tiles, weights, *_ = make_problem()
    directions = tf.random.stateless_normal((13, 3), [0, 2])
    margins = margins_at(block, tiles, weights)
    slopes = slopes_along(block, tiles, directions)

    def first(length):
        lengths = tf.fill((3,), length)
        return line_derivatives(block, weights, directions, margins, slopes, lengths)

    at = weights + 0.3 * directions
    gradient = evaluate(block, tiles, at, margins_at(block, tiles, at))[1]
    expected = tf.reduce_sum(gradient * directions, axis=0)
    np.testing.assert_allclose(first(0.3)[0], expected, rtol=1e-4)
    curve = (first(0.301)[0] - first(0.299)[0]) / 0.002
    np.testing.assert_allclose(first(0.3)[1], curve, rtol=5e-2)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"C": 0.0}, "`C` and `tolerance` must be above 0"),
        ({"positives": np.zeros((0, 12))}, "at least one"),
        ({"cluster_ids": [0, 1]}, "one of `cluster_ids` each"),
        ({"cluster_ids": np.full(30, 2)}, "each at least once"),
        ({"negatives": np.zeros((5, 3))}, "the features of `positives`"),
        ({"negatives": np.full((5, 12), np.nan)}, "such rows"),
        ({"positives": np.full((30, 12), np.inf)}, "rows with NaN or infinity"),
        ({"excluded": np.array([[0, 1, 2]])}, "a negative and a cluster"),
        ({"excluded": np.array([[300, 0]])}, "rows 0 to 299"),
    ],
)
def test_bad_input_is_one_line_with_what_came(change, words):
    positives, ids, negatives = plain.make_clusters()
    arguments = {"positives": positives, "cluster_ids": ids, "negatives": negatives, **change}
    with pytest.raises(ValueError) as caught:
        fit_linear_svms(**arguments)
    assert words in str(caught.value) and "Received" in str(caught.value)
    assert "\n" not in str(caught.value)
