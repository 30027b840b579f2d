"""The model that learns attributes: its loss, what it learns, and that it comes back as it was."""

import itertools

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes.batches import triplet_batches
from keras_ctxattr.attributes.hasher import AttributeHasher
from keras_ctxattr.attributes.projection import measure_features
from keras_ctxattr.backbones import small
from tests.attributes import plain
from tests.attributes.test_projection import make_clusters, share_of_agreement
from tests.contracts import POLICIES, dtype_policy


def make_hasher(**options):
    given = {"num_attributes": 16, "num_features": 20, "seed": 0, **options}
    hasher = AttributeHasher(**given)
    hasher.compile(optimizer=keras.optimizers.Adam(0.01))
    return hasher


def batches_of(vectors, clusters, **options):
    return triplet_batches(vectors.astype(np.float32), clusters, batch_size=48, **options)


@pytest.fixture
def samples():
    return make_clusters()


def test_loss_is_the_restated_one(samples):
    vectors, clusters = samples
    hasher = make_hasher(alpha=0.7, beta=1.3, gamma=0.01)
    given, (ids, positives) = next(iter(batches_of(vectors, clusters)))
    scores = hasher(given)
    found = hasher.attribute_loss(hasher.terms(scores, ids, positives))
    expected = plain.attribute_loss(
        scores, hasher.projection.kernel, ids.numpy(), positives.numpy(), 0.7, 1.3, 0.01
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    logs = hasher.evaluate(batches_of(vectors, clusters), steps=1, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)


def test_clusters_come_to_share_their_attributes(samples):
    vectors, clusters = samples
    hasher = make_hasher(slope=2.0)
    hasher.scaling.set_statistics(*measure_features(vectors))
    before = share_of_agreement(np.sign(hasher.predict(vectors, verbose=0)), clusters)
    history = hasher.fit(
        batches_of(vectors, clusters), steps_per_epoch=50, epochs=4, verbose=0
    ).history
    after = share_of_agreement(np.sign(hasher.predict(vectors, verbose=0)), clusters)
    assert history["loss"][-1] < history["loss"][0] and history["loss"][-1] != 0
    assert history["triplet"][-1] < history["triplet"][0]
    assert np.subtract(*after) > np.subtract(*before) + 0.05
    assert history["dead_bits"][-1] == 0 == history["duplicate_bits"][-1]


@pytest.mark.parametrize("seed", range(5))
def test_defaults_keep_their_variance_and_literal_terms_lose_it(seed):
    vectors, clusters = make_clusters(num_features=60)
    vectors = vectors * np.linspace(2, 0.05, 60)  # as real features: a few directions vary most
    variances = {}
    for literal in (False, True):
        hasher = make_hasher(num_attributes=8, num_features=60, literal_eq2=literal, seed=seed)
        hasher.scaling.set_statistics(*measure_features(vectors))
        history = hasher.fit(
            batches_of(vectors, clusters, seed=seed), steps_per_epoch=40, epochs=3, verbose=0
        ).history
        assert np.isfinite(history["loss"]).all()
        variances[literal] = history["variance"][-1]
        if not literal:
            assert history["dead_bits"][-1] == 0
    assert variances[False] > 0.5
    assert variances[True] < 0.1 * variances[False]


def test_idle_bits_are_counted(samples):
    vectors, clusters = samples
    hasher = make_hasher()
    hasher.compile(optimizer=keras.optimizers.SGD(0.0))
    kernel = np.array(hasher.projection.kernel)
    kernel[:, 3] = kernel[:, 7]
    kernel[:, 9] = -2 * kernel[:, 2]
    hasher.projection.kernel.assign(kernel)
    moved = vectors + 50 * kernel[:, 5] / np.linalg.norm(kernel[:, 5])
    moved -= kernel[:, [2, 3, 7]] @ np.linalg.pinv(kernel[:, [2, 3, 7]]) @ (moved - vectors).mean(0)
    hasher.scaling.momentum = 1.0  # the mean stays 0, so that bit 5 is always set
    logs = hasher.fit(batches_of(moved, clusters), steps_per_epoch=60, verbose=0).history
    assert logs["dead_bits"][-1] >= 1
    assert logs["duplicate_bits"][-1] == pytest.approx(2, abs=0.2)


def test_scores_are_centred_scaled_and_projected(samples):
    vectors, _ = samples
    hasher = make_hasher()
    mean, variance = vectors.mean(axis=0) + 1, 4.0
    hasher.scaling.set_statistics(mean, variance)
    expected = (vectors - mean) / 2 @ np.array(hasher.projection.kernel)
    np.testing.assert_allclose(hasher.predict(vectors, verbose=0), expected, atol=1e-4)


def test_initialized_it_begins_with_bits_that_clusters_share(samples):
    vectors, clusters = samples
    moved = (5 + 3 * vectors).astype(np.float32)
    labels = np.where(np.arange(len(clusters)) % 5 == 0, -1, clusters)
    hasher = make_hasher()
    before = share_of_agreement(np.sign(hasher.predict(vectors, verbose=0)), clusters)
    hasher.initialize(moved, labels)
    scores = hasher.predict(moved, verbose=0)
    after = share_of_agreement(np.sign(scores), clusters)
    assert np.subtract(*after) > np.subtract(*before) + 0.03
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(hasher.scaling.variance, 9 * vectors.var(axis=0).mean(), rtol=1e-4)


def test_running_statistics_approach_the_samples(samples):
    vectors, clusters = samples
    hasher = make_hasher()
    hasher.fit(batches_of(3 + 2 * vectors, clusters), steps_per_epoch=400, verbose=0)
    np.testing.assert_allclose(hasher.scaling.mean, 3 + 2 * vectors.mean(axis=0), atol=0.4)
    np.testing.assert_allclose(hasher.scaling.variance, 4 * vectors.var(axis=0).mean(), rtol=0.1)


# ---- with a backbone -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patches():
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(8), 8)
    coarse = generator.integers(0, 256, (8, 4, 4, 3)).astype(np.float32)
    bases = np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse])
    noise = generator.normal(0, 20, (64, 32, 32, 3))
    return np.clip(bases[clusters] + noise, 0, 255).astype(np.uint8), clusters


def make_deep(**options):
    keras.utils.set_random_seed(0)
    hasher = AttributeHasher(
        small(width=8, num_features=24), num_attributes=8, seed=0, transformations={}, **options
    )
    # As features of a fresh network are; running statistics would take hundreds of steps.
    hasher.scaling.set_statistics(np.full(24, 0.4), 0.3)
    hasher.compile(optimizer=keras.optimizers.Adam(0.003))
    return hasher


@pytest.mark.parametrize("policy", POLICIES)
def test_it_learns_from_patches_under_each_policy(patches, policy):
    pixels, clusters = patches
    with dtype_policy(policy):
        hasher = make_deep()
        batches = triplet_batches(pixels, clusters, batch_size=16)
        history = hasher.fit(batches, steps_per_epoch=20, epochs=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert history["triplet"][-1] < history["triplet"][0]
    assert hasher(pixels[:3]).dtype == tf.float32


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_the_backbone_takes_its_share_of_a_step(patches, rate):
    pixels, clusters = patches
    step = next(iter(triplet_batches(pixels, clusters, batch_size=16)))
    moved = {}
    for given in (rate, 1.0):
        hasher = make_deep(backbone_rate=given)
        before = [np.array(v) for v in hasher.backbone.trainable_weights]
        hasher.fit(tf.data.Dataset.from_tensors(step), verbose=0)
        moved[given] = [
            np.array(v) - old
            for v, old in zip(hasher.backbone.trainable_weights, before, strict=True)
        ]
    if rate == 0:
        assert moved[0.0] == [] and not make_deep(backbone_rate=0.0).backbone.trainable
    else:
        for small_step, whole in zip(moved[rate], moved[1.0], strict=True):
            np.testing.assert_allclose(small_step, rate * whole, atol=1e-5)
        assert max(np.abs(step).max() for step in moved[1.0]) > 1e-3


def test_a_frozen_backbone_is_left_as_it_is(patches):
    pixels, clusters = patches
    hasher = make_deep(backbone_rate=0.0)
    before = [np.array(v) for v in hasher.backbone.weights]
    kernel = np.array(hasher.projection.kernel)
    hasher.fit(triplet_batches(pixels, clusters, batch_size=16), steps_per_epoch=5, verbose=0)
    for variable, old in zip(hasher.backbone.weights, before, strict=True):
        np.testing.assert_array_equal(variable, old)
    assert not np.allclose(kernel, hasher.projection.kernel)


def test_layers_that_were_frozen_before_stay_so():
    """Making the model once set `trainable` of the whole backbone."""
    backbone = small(width=8, num_features=24)
    frozen = next(layer for layer in backbone.layers if layer.trainable_weights)
    frozen.trainable = False
    hasher = AttributeHasher(backbone, num_attributes=8)
    assert not frozen.trainable_weights
    names = {variable.path for variable in hasher.trainable_variables}
    assert names and not names & {variable.path for variable in frozen.weights}


def test_transformations_act_in_training_only(patches):
    pixels, _ = patches
    hasher = make_deep()
    still = [np.array(hasher.describe(pixels[:4])) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert not np.allclose(still[0], hasher.describe(pixels[:4], training=True))


# ---- there and back ------------------------------------------------------------------------------


def test_saved_and_loaded_it_gives_the_same_scores_and_goes_on(tmp_path, patches):
    pixels, clusters = patches
    hasher = make_deep(alpha=0.5, backbone_rate=0.5)
    batches = triplet_batches(pixels, clusters, batch_size=16)
    hasher.fit(batches, steps_per_epoch=3, verbose=0)
    hasher.save(tmp_path / "hasher.keras")
    loaded = keras.saving.load_model(tmp_path / "hasher.keras")
    np.testing.assert_array_equal(
        loaded.predict(pixels, verbose=0), hasher.predict(pixels, verbose=0)
    )
    assert loaded.get_config()["alpha"] == 0.5 and loaded.get_config()["backbone_rate"] == 0.5
    for one, other in zip(hasher.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_attributes": 12}, "multiple of 8"),
        ({"num_features": None}, "Either `backbone` or `num_features`"),
        ({"backbone_rate": 2.0}, "0 to 1"),
        ({"slope": 0.0}, "above 0"),
    ],
)
def test_impossible_models_are_one_line(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        make_hasher(**options)
    assert "Received" in str(caught.value)


def test_batches_of_a_table_on_the_disk(tmp_path, samples):
    vectors, clusters = samples
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float32))
    table = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for one, other in zip(
        itertools.islice(triplet_batches(table, clusters), 3),
        itertools.islice(triplet_batches(vectors.astype(np.float32), clusters), 3),
        strict=True,
    ):
        np.testing.assert_array_equal(one[0], other[0])
