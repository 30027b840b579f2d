"""Contrast, mean and local response normalisation against plain restatements."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.layers import (
    ContrastNormalization,
    FeatureScaling,
    LocalResponseNormalization,
    MeanSubtraction,
)
from tests import restatements as plain


def random_patches(count=5, size=12, seed=0):
    generator = np.random.default_rng(seed)
    contrast = generator.uniform(0.01, 1, (count, 1, 1, 1))
    return (generator.uniform(0, 255, (count, size, size, 3)) * contrast).astype("float32")


# ---- contrast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtract_mean", [False, True])
def test_every_patch_gets_a_root_mean_square_of_50(subtract_mean):
    patches = random_patches()
    normalized = np.asarray(ContrastNormalization(subtract_mean)(patches))
    for patch, result in zip(patches, normalized, strict=True):
        centred = plain.subtract_channel_means(patch) if subtract_mean else patch
        np.testing.assert_allclose(result, plain.normalize_contrast(centred), atol=1e-3)
        assert plain.root_mean_square(result) == pytest.approx(50, abs=1e-4)


def test_faint_patches_are_divided_by_a_thousandth_and_no_less():
    faint = np.full((1, 4, 4, 3), 1e-4, "float32")
    normalized = ContrastNormalization()(faint)
    np.testing.assert_allclose(normalized, faint / 1e-3 * 50, rtol=1e-5)


@pytest.mark.parametrize("subtract_mean", [False, True])
def test_patches_of_one_colour_give_zeros_and_a_finite_gradient(subtract_mean):
    patches = tf.constant(np.full((2, 4, 4, 3), 0 if not subtract_mean else 77, "float32"))
    with tf.GradientTape() as tape:
        tape.watch(patches)
        normalized = ContrastNormalization(subtract_mean)(patches)
    np.testing.assert_array_equal(normalized, 0)
    assert np.isfinite(tape.gradient(normalized, patches)).all()


# ---- mean ----------------------------------------------------------------------------------------


def test_the_mean_colour_is_subtracted_channel_by_channel():
    patches = random_patches()
    result = np.asarray(MeanSubtraction((10, 20, 30.5))(patches))
    for channel, mean in enumerate((10, 20, 30.5)):
        np.testing.assert_allclose(result[..., channel], patches[..., channel] - mean, atol=1e-4)


def test_a_mean_of_the_wrong_length_is_named():
    with pytest.raises(ValueError, match=r"mean.*\(1, 2\)"):
        MeanSubtraction((1, 2))


# ---- local response ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 5, 16])
def test_local_response_normalization_equals_the_loop_and_tensorflows(channels):
    generator = np.random.default_rng(0)
    # Strong activations: at the scale of 1 the layer would be the identity within the tolerance.
    activations = generator.normal(0, 300, (2, 3, 4, channels)).astype("float32")
    ours = np.asarray(LocalResponseNormalization()(activations))
    restated = plain.respond_locally(activations.astype("float64"))
    assert np.abs(restated / activations).min() < 0.7
    np.testing.assert_allclose(ours, restated, rtol=1e-4)
    theirs = tf.nn.lrn(activations, depth_radius=2, bias=1, alpha=2e-5, beta=0.75)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_local_response_normalization_has_tensorflows_gradient():
    generator = np.random.default_rng(1)
    activations = tf.constant(generator.normal(0, 300, (2, 3, 3, 8)).astype("float32"))
    weights = generator.normal(size=activations.shape).astype("float32")
    layer = LocalResponseNormalization()
    gradients = []
    for normalize in (layer, lambda a: tf.nn.lrn(a, 2, bias=1, alpha=2e-5, beta=0.75)):
        with tf.GradientTape() as tape:
            tape.watch(activations)
            total = tf.reduce_sum(normalize(activations) * weights)
        gradients.append(tape.gradient(total, activations).numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-4)


def test_local_response_normalization_of_other_sizes_divides_alpha_by_the_size():
    activations = np.random.default_rng(2).normal(0, 300, (1, 2, 2, 9)).astype("float32")
    ours = LocalResponseNormalization(size=3, alpha=5e-5)(activations)
    restated = plain.respond_locally(activations.astype("float64"), size=3, alpha=5e-5)
    np.testing.assert_allclose(ours, restated, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_does_not_lose_the_divisor(dtype):
    # 300 ** 2 overflows float16, and 1 + .003 is 1 in bfloat16.
    activations = np.full((1, 1, 1, 5), 300, "float32")
    ours = np.asarray(LocalResponseNormalization(dtype=dtype)(activations)).astype("float32")
    restated = plain.respond_locally(activations.astype("float64"))
    np.testing.assert_allclose(ours, restated, rtol=1e-2)
    faint = np.full((1, 1, 1, 64), 12, "float32")
    assert (np.asarray(LocalResponseNormalization(dtype=dtype)(faint)) <= 12).all()


@pytest.mark.parametrize("size", [0, 4, -1])
def test_even_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        LocalResponseNormalization(size)


# ---- features ------------------------------------------------------------------------------------


def test_features_are_centred_and_divided_by_one_number():
    features = np.random.default_rng(0).normal(3, [1, 2, 5], (400, 3)).astype("float32")
    layer = FeatureScaling()
    layer.build((None, 3))
    layer.set_statistics(features.mean(axis=0), features.var(axis=0).mean())
    scaled = np.asarray(layer(features))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.var(axis=0).mean(), 1, rtol=1e-4)
    ratios = scaled.std(axis=0) / features.std(axis=0)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)  # what varies more still does


def test_running_statistics_move_in_training_only():
    features = np.random.default_rng(0).normal(3, 2, (64, 5)).astype("float32")
    layer = FeatureScaling(momentum=0.75)
    np.testing.assert_allclose(layer(features), features, rtol=1e-6)  # 0 and 1 at first
    layer(features, training=True)
    np.testing.assert_allclose(layer.mean, 0.25 * features.mean(axis=0), rtol=1e-5)
    variance = 0.75 + 0.25 * features.var(axis=0).mean()
    np.testing.assert_allclose(layer.variance, variance, rtol=1e-5)
    layer(features)
    np.testing.assert_allclose(layer.variance, variance, rtol=1e-5)
    with pytest.raises(ValueError, match="0 to 1"):
        FeatureScaling(momentum=1.5)
