"""Where W begins: bits that a cluster shares and others do not."""

import numpy as np
import pytest

from keras_ctxattr.attributes import projection
from keras_ctxattr.attributes.axes import principal_axes
from keras_ctxattr.attributes.projection import flip_bits, initial_projection


def make_clusters(num_clusters=12, size=40, num_features=20, seed=0, spread=1.0):
    generator = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(num_clusters), size)
    centres = generator.normal(size=(num_clusters, num_features))
    vectors = centres[clusters] + spread * generator.normal(size=(len(clusters), num_features))
    return vectors - vectors.mean(axis=0), clusters


def share_of_agreement(signs, clusters):
    """Gives the mean share of bits that two samples of one cluster, and of two, have in common."""
    agreement = signs @ signs.T / signs.shape[1] / 2 + 0.5
    same = clusters[:, None] == clusters[None]
    return agreement[same].mean(), agreement[~same].mean()


def test_clusters_share_more_bits_than_by_principal_axes():
    vectors, clusters = make_clusters()
    weights = initial_projection(vectors, clusters, 16)
    axes = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :16]
    ours, theirs = (
        np.subtract(*share_of_agreement(np.sign(vectors @ given), clusters))
        for given in (weights, axes)
    )
    assert ours > 1.1 * theirs
    np.testing.assert_allclose(np.linalg.norm(weights, axis=0), 1, atol=1e-5)
    assert weights.dtype == np.float32 and weights.shape == (20, 16)


def test_samples_in_no_cluster_are_left_out_and_a_seed_gives_the_same_twice():
    vectors, clusters = make_clusters()
    more = np.concatenate([vectors, 100 + vectors[:50]])
    labels = np.concatenate([clusters, np.full(50, -1)])
    np.testing.assert_array_equal(
        initial_projection(more, labels, 8), initial_projection(vectors, clusters, 8)
    )


def test_more_bits_than_features():
    vectors, clusters = make_clusters(num_features=6)
    weights = initial_projection(vectors, clusters, 16)
    assert weights.shape == (6, 16) and np.isfinite(weights).all()
    assert np.linalg.matrix_rank(weights) == 6


def test_of_very_many_features_the_axes_of_most_variance_are_seen(monkeypatch):
    vectors, clusters = make_clusters()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(90, 90)))[0][:20]
    monkeypatch.setattr(projection, "_MAX_AXES", 40)  # features vary along 20
    found = initial_projection(vectors @ rotation, clusters, 8)
    expected = initial_projection(vectors, clusters, 8)
    bits = [np.sign(given) for given in (vectors @ rotation @ found, vectors @ expected)]
    agreement = np.abs((bits[0] * bits[1]).mean(axis=0))  # an axis has no sign of its own
    assert found.shape == (90, 8) and agreement.min() > 0.95


@pytest.mark.parametrize("num_samples", [12, 30, 200])
def test_principal_axes_hold_the_most_variance_whichever_way_they_are_found(num_samples):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(num_samples, 30)) * np.linspace(3, 0.1, 30)
    vectors -= vectors.mean(axis=0)
    axes = principal_axes(vectors, 5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-9)
    found = np.square(vectors @ axes).sum(axis=0)
    expected = np.sort(np.linalg.svd(vectors)[1] ** 2)[::-1][:5]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(5)] > 0).all()


def test_one_bit_of_many_is_flipped_and_a_fair_split_stays():
    clusters = np.repeat([0, 1, 2, 3], 9)
    signs = np.where(np.stack([clusters < 2, clusters % 2 == 0], axis=1), 1.0, -1.0)
    signs[0, 0] = -1  # alone in its cluster
    flipped = flip_bits(signs, clusters)
    expected = signs.copy()
    expected[0, 0] = 1
    np.testing.assert_array_equal(flipped, expected)
    assert signs[0, 0] == -1  # the argument is as it was


def test_one_cluster_cannot_be_told_apart():
    vectors, _ = make_clusters()
    with pytest.raises(ValueError, match="at least 2 clusters"):
        initial_projection(vectors, np.zeros(len(vectors), int), 8)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        initial_projection(vectors, np.full(len(vectors), -1), 8)
