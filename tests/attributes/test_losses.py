"""Each term of the attribute loss against a plain restatement, by hand, and its laws."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes.losses import (
    dependence,
    hamming_distances,
    literal_dependence,
    projected_variance,
    relaxed_codes,
    squared_norm,
    triplet_hinges,
)
from tests.attributes import plain


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (12, 8)).astype(np.float32)
    clusters = np.repeat(np.arange(6), 2)
    positives = np.arange(12) ^ 1
    return scores, clusters, positives


@pytest.mark.parametrize("slope", [0.5, 1.0, 3.0])
def test_relaxed_codes_are_a_stretched_sigmoid(batch, slope):
    codes = np.asarray(relaxed_codes(batch[0], slope))
    expected = [plain.relaxed_code(score, slope) for score in batch[0]]
    np.testing.assert_allclose(codes, expected, atol=1e-6)
    assert np.abs(codes).max() <= 1
    np.testing.assert_array_equal(np.sign(codes), np.sign(batch[0]))


def test_distances_of_signs_count_the_bits_that_differ():
    generator = np.random.default_rng(1)
    bits, others = generator.random((5, 16)) > 0.5, generator.random((7, 16)) > 0.5
    signs, others_signs = (
        np.where(given, 1.0, -1.0).astype(np.float32) for given in (bits, others)
    )
    found = np.asarray(hamming_distances(signs, others_signs))
    np.testing.assert_array_equal(found, (bits[:, None] != others[None]).sum(axis=2))


@pytest.mark.parametrize("margin", [None, 0.0, 1.5, 100.0])
def test_hinges_are_those_of_the_hardest_negative(batch, margin):
    scores, clusters, positives = batch
    codes = np.asarray(relaxed_codes(scores))
    found = np.asarray(triplet_hinges(codes, clusters, positives, margin))
    rho = 4.0 if margin is None else margin
    expected = [
        plain.triplet_hinge(codes.tolist(), clusters, positives, sample, rho)
        for sample in range(len(scores))
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_hinge_by_hand():
    # Distances: 0-1 is 1, 0-2 is 1, 0-3 is 2; 1-2 is 2, 1-3 is 1; 2-3 is 1.
    codes = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    found = triplet_hinges(codes, np.array([0, 0, 1, 1]), np.array([1, 0, 3, 2]))
    np.testing.assert_allclose(found, [1.0, 1.0, 1.0, 1.0])  # 1 + 1 - 1
    alone = triplet_hinges(codes, np.array([0, 1, 1, 1]), np.array([0, 2, 3, 1]), 0.5)
    np.testing.assert_allclose(alone, [0.0, 1.5, 0.5, 0.0])


def test_parts_of_a_batch_have_their_own_negatives(batch):
    scores, _, _ = batch
    codes = np.asarray(relaxed_codes(scores))
    clusters = np.repeat(np.arange(6), 2) % 4  # two clusters are in two parts
    positives = np.arange(12) ^ 1
    found = triplet_hinges(codes, clusters, positives, contrast_size=4)
    parts = [
        triplet_hinges(codes[start : start + 4], clusters[start : start + 4], positives[:4])
        for start in (0, 4, 8)
    ]
    np.testing.assert_allclose(found, np.concatenate(parts), atol=1e-6)
    whole = np.asarray(triplet_hinges(codes, clusters, positives))
    assert (np.asarray(found) <= whole + 1e-6).all() and (np.asarray(found) < whole).any()


def test_a_batch_of_one_cluster_has_no_triplet_and_a_finite_gradient(batch):
    scores = tf.Variable(batch[0])
    with tf.GradientTape() as tape:
        hinges = triplet_hinges(relaxed_codes(scores), np.zeros(12, int), batch[2])
        loss = tf.reduce_sum(hinges)
    assert loss == 0
    gradient = tape.gradient(loss, scores)
    assert gradient is None or np.all(np.asarray(gradient) == 0)


def test_gradient_is_finite_and_pulls_positives_together(batch):
    scores = tf.Variable(batch[0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(triplet_hinges(relaxed_codes(scores), batch[1], batch[2]))
    gradient = np.asarray(tape.gradient(loss, scores))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    moved = relaxed_codes(batch[0] - 0.01 * gradient)
    assert tf.reduce_mean(triplet_hinges(moved, batch[1], batch[2])) < loss


def test_terms_against_sums_over_entries():
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(5, 8))
    weights = generator.normal(size=(11, 8))
    np.testing.assert_allclose(projected_variance(scores), np.mean(scores**2), rtol=1e-6)
    np.testing.assert_allclose(squared_norm(weights), np.sum(weights**2), rtol=1e-6)
    gram = weights.T @ weights - np.eye(8)
    np.testing.assert_allclose(dependence(weights), np.sum(gram**2), rtol=1e-5)
    printed = weights @ weights.T - np.eye(11)
    np.testing.assert_allclose(literal_dependence(weights), np.sum(printed**2), rtol=1e-5)


def test_only_our_dependence_reaches_0():
    weights = np.linalg.qr(np.random.default_rng(3).normal(size=(11, 8)))[0]
    np.testing.assert_allclose(dependence(weights), 0, atol=1e-6)
    np.testing.assert_allclose(literal_dependence(weights), 11 - 8, atol=1e-5)


@pytest.mark.parametrize("contrast_size", [None, 8])
def test_hinges_of_two_shares_are_those_of_the_whole_batch(batch, contrast_size):
    """Each device knows the rows of all, and where its own begin."""
    codes, clusters, positives = batch
    count = len(codes) // 2
    whole = np.asarray(triplet_hinges(codes, clusters, positives, None, contrast_size))
    everything = {codes.shape[1:]: codes, clusters.shape[1:]: clusters}
    for first in (0, count):
        own = slice(first, first + count)
        hinges = triplet_hinges(
            codes[own],
            clusters[own],
            positives[own] - first,
            None,
            contrast_size,
            gather=lambda rows: everything[tuple(rows.shape[1:])],
            first=first,
        )
        np.testing.assert_allclose(hinges, whole[own], rtol=1e-6)
