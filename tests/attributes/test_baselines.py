"""Hashing of fixed features: the shared contract, and what each method promises."""

import itertools

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from keras_ctxattr.attributes.baselines import (
    BASELINES,
    ITQ,
    LSH,
    PCAH,
    DeepHashing,
    SpectralHashing,
)
from keras_ctxattr.attributes.codes import hamming, unpack_bits


def make_vectors(count=600, num_features=24, seed=0):
    """Features of falling variance along random axes, off the origin."""
    generator = np.random.default_rng(seed)
    axes = np.linalg.qr(generator.normal(size=(num_features, num_features)))[0]
    spread = generator.normal(size=(count, num_features)) * np.linspace(3, 0.3, num_features)
    return (7 + spread @ axes.T).astype(np.float32)


@pytest.fixture(params=BASELINES)
def method(request):
    return BASELINES[request.param]


def test_codes_are_packed_signs_of_scores(method):
    vectors = make_vectors()
    hashing = method(16).fit(vectors)
    scores = hashing.transform(vectors)
    assert scores.dtype == np.float32 and scores.shape == (600, 16)
    codes = hashing.encode(vectors)
    assert codes.dtype == np.uint8 and codes.shape == (600, 2)
    np.testing.assert_array_equal(unpack_bits(codes), scores > 0)
    np.testing.assert_array_equal(hashing.encode(vectors[:7]), codes[:7])


def test_a_seed_gives_the_same_codes_twice(method):
    vectors = make_vectors()
    hashing = method(16, random_state=4)
    np.testing.assert_array_equal(
        hashing.fit(vectors).encode(vectors), clone(hashing).fit(vectors).encode(vectors)
    )


def test_near_samples_have_nearer_codes(method):
    vectors = make_vectors()
    hashing = method(16).fit(vectors)
    codes = hashing.encode(vectors)
    generator = np.random.default_rng(1)
    near = hashing.encode(vectors + 0.1 * generator.normal(size=vectors.shape).astype(np.float32))
    distances = hamming(codes, near)
    assert np.diag(distances).mean() < 0.4 * distances.mean()


def test_moving_all_features_changes_no_code(method):
    vectors = make_vectors().astype(np.float64)
    one, other = (method(16).fit(given).encode(given) for given in (vectors, vectors + 1000))
    assert np.mean(one == other) > 0.99


def test_no_bit_is_dead(method):
    vectors = make_vectors()
    bits = unpack_bits(method(16).fit(vectors).encode(vectors))
    assert (np.abs(bits.mean(axis=0) - 0.5) < 0.4).all()


def test_bad_input_is_one_line(method):
    vectors = make_vectors(50)
    with pytest.raises(NotFittedError):
        method(8).encode(vectors)
    with pytest.raises(ValueError, match="multiple of 8"):
        method(12).fit(vectors)
    with pytest.raises(ValueError, match="NaN"):
        method(8).fit(np.full((50, 9), np.nan))
    with pytest.raises(ValueError, match="24 features"):
        method(8).fit(vectors).encode(vectors[:, :20])


@pytest.mark.parametrize("method", [PCAH, ITQ, SpectralHashing])
def test_more_bits_than_features_are_refused_where_bits_are_axes(method):
    with pytest.raises(ValueError, match="at least as many features as bits"):
        method(32).fit(make_vectors())
    assert LSH(32).fit(make_vectors()).encode(make_vectors()).shape == (600, 4)


def test_principal_projections_are_uncorrelated_and_rotation_keeps_them_orthonormal():
    vectors = make_vectors()
    scores = PCAH(8).fit(vectors).transform(vectors)
    covariance = np.cov(scores.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2 * covariance.max()
    assert (np.diff(np.diag(covariance)) < 0).all()
    projections = ITQ(8).fit(vectors).projections_
    np.testing.assert_allclose(projections.T @ projections, np.eye(8), atol=1e-8)


def test_rotation_brings_projections_nearer_to_their_signs():
    vectors = make_vectors()

    def error(method):
        scores = method.fit(vectors).transform(vectors)
        return np.mean((np.sign(scores) - scores) ** 2)

    errors = [error(ITQ(8, num_iterations=count)) for count in (0, 1, 5, 50)]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 0.98 * errors[0]


def test_spectral_hashing_takes_the_smoothest_functions():
    generator = np.random.default_rng(0)
    # One long axis and seven short ones: the long one gives several bits before a short one any.
    lengths = np.array([20, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    vectors = generator.uniform(size=(2000, 8)) * lengths
    hashing = SpectralHashing(8).fit(vectors)
    assert (hashing.bit_axes_ == 0).all()
    np.testing.assert_allclose(hashing.frequencies_ * 20 / np.pi, np.arange(1, 9), rtol=0.02)


def test_deep_hashing_descends_its_stated_objective():
    """The gradient is that of differences, and training lowers |B - H|^2."""
    vectors = make_vectors(200)
    hashing = DeepHashing(8, hidden=(12, 10), num_rounds=1, num_iterations=0).fit(vectors)
    inputs = (vectors - hashing.mean_) / hashing.scale_
    start = np.concatenate([part.ravel() for layer in hashing.layers_ for part in layer])
    shapes = [weights.shape for weights, _ in hashing.layers_]
    signs = np.where(hashing.transform(vectors) > 0, 1.0, -1.0)
    value, gradient = hashing._objective(start, inputs, signs, shapes)
    generator = np.random.default_rng(0)
    for _ in range(3):
        direction = generator.standard_normal(len(start))
        ahead, behind = (
            hashing._objective(start + step * direction, inputs, signs, shapes)[0]
            for step in (1e-5, -1e-5)
        )
        assert gradient @ direction == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)
    plainly = 0.5 * ((signs - hashing.transform(vectors)) ** 2).sum()
    plainly -= 100 / 2 / 200 * (hashing.transform(vectors) ** 2).sum()
    for weights, bias in hashing.layers_:
        plainly += 5e-4 * ((weights.T @ weights - np.eye(weights.shape[1])) ** 2).sum()
        plainly += 5e-4 * ((weights**2).sum() + (bias**2).sum())
    assert value == pytest.approx(plainly, rel=1e-5)
    learnt = DeepHashing(8, hidden=(12, 10)).fit(vectors).transform(vectors)
    rest = [np.square(np.sign(h) - h).sum() for h in (hashing.transform(vectors), learnt)]
    assert rest[1] < 0.5 * rest[0]
