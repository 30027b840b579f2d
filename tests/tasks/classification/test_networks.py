"""Networks by their layers: every way to open one, and what their pooled maps are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import compact, small
from keras_ctxattr.backbones.conversion import fully_convolutional
from keras_ctxattr.export import export_module
from keras_ctxattr.features import HOG
from keras_ctxattr.tasks.classification.networks import (
    BATCH_SIZE,
    describe_by_hog,
    describe_pixels,
    open_layers,
)
from keras_ctxattr.tasks.classification.pooling import pool_maps
from tests.data.encoding import make_pixels


def draw_pixels(count=3, side=96):
    return np.stack([make_pixels(side, side, seed=seed) for seed in range(count)])


def unsettle(backbone):
    """Gives batch normalisation statistics that change something."""
    generator = np.random.default_rng(0)
    for variable in backbone.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(generator.uniform(0.5, 2, variable.shape))


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    model = compact(width=8, num_features=16)
    unsettle(model)
    return model


@pytest.fixture(scope="module")
def module(backbone, tmp_path_factory):
    return export_module(backbone, tmp_path_factory.mktemp("made") / "module")


@pytest.fixture(scope="module")
def attributes(tmp_path_factory):
    """Gives a module of 16 attributes of 32 x 32 patches."""
    keras.utils.set_random_seed(1)
    inner = small(width=8, num_features=16)
    unsettle(inner)
    hasher = AttributeHasher(inner, num_attributes=16)
    hasher(draw_pixels(2, 32))
    hasher.projection.kernel.assign(np.random.default_rng(0).normal(size=(16, 16)))
    return export_module(hasher, tmp_path_factory.mktemp("learnt") / "module")


def test_layers_are_all_activations_of_the_module_and_the_last_is_its_map(module, backbone):
    network, pixels = open_layers(module), draw_pixels()
    assert network.layers == [*(f"conv{n}_relu" for n in range(1, 5)), "fc6_relu"]
    found = describe_pixels(network, pixels, (1, 2))
    loaded = tf.saved_model.load(str(module))
    expected = pool_maps(loaded.feature_map(tf.cast(pixels, tf.float32) / 255), (1, 2))
    np.testing.assert_allclose(
        found["fc6_relu"], np.asarray(expected).reshape(3, -1), rtol=1e-3, atol=1e-4
    )
    # Another layer, of the backbone as it is: normalised, not folded.
    sliding = fully_convolutional(backbone)
    part = keras.Model(sliding.input, sliding.get_layer("conv2_relu").output)
    ready = normalize(pixels)
    maps = np.asarray(part(ready, training=False))
    assert found["conv2_relu"].shape == (3, 5 * maps.shape[-1])
    np.testing.assert_allclose(
        found["conv2_relu"][:, : maps.shape[-1]], maps.max(axis=(1, 2)), rtol=1e-3, atol=1e-4
    )


def normalize(pixels):
    """Restates what a module does to photographs: no mean of a channel, contrast 50."""
    values = pixels.astype(np.float64) - pixels.mean(axis=(1, 2), keepdims=True)
    power = np.sqrt((values**2).mean(axis=(1, 2, 3), keepdims=True))
    return (values * 50 / power).astype(np.float32)


def test_attributes_are_the_modules_own_relaxed_at_every_place(attributes):
    network = open_layers(attributes)
    assert network.layers[-3:] == ["fc6_relu", "features", "attributes"]
    pixels = draw_pixels(4, 32)  # one patch: one place
    found = describe_pixels(network, pixels, (1,))
    loaded = tf.saved_model.load(str(attributes))
    images = tf.cast(pixels, tf.float32) / 255
    np.testing.assert_allclose(found["features"], loaded(images), atol=1e-5)
    expected = 2 / (1 + np.exp(-loaded.attributes(images).numpy())) - 1
    np.testing.assert_allclose(found["attributes"], expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1
    larger = describe_pixels(network, draw_pixels(2, 64), (1, 2, 4))
    assert larger["attributes"].shape == (2, 21 * 16)


def test_maps_smaller_than_a_pyramid_are_pooled(module):
    found = describe_pixels(open_layers(module), draw_pixels(2, 96), (1, 2, 4))
    assert found["fc6_relu"].shape == (2, 21 * 16)  # one place, which all bins share
    np.testing.assert_array_equal(found["fc6_relu"][:, :16], found["fc6_relu"][:, -16:])


def test_batches_change_nothing(module):
    network, pixels = open_layers(module).only(["conv3_relu"]), draw_pixels(BATCH_SIZE + 2, 96)
    seen = []
    told = describe_pixels(network, pixels, (2,), progress=lambda *counts: seen.append(counts))
    alone = describe_pixels(network, pixels[-1:], (2,))
    np.testing.assert_allclose(told["conv3_relu"][-1:], alone["conv3_relu"], rtol=1e-4, atol=1e-4)
    assert seen == [(BATCH_SIZE, BATCH_SIZE + 2), (BATCH_SIZE + 2, BATCH_SIZE + 2)]


def test_fresh_weights_differ_by_seed_and_leave_the_network_alone(attributes):
    network, pixels = open_layers(attributes), draw_pixels(2, 32)
    before = describe_pixels(network, pixels, (1,))
    drawn = [describe_pixels(network.fresh(seed), pixels, (1,)) for seed in (0, 0, 1)]
    after = describe_pixels(network, pixels, (1,))
    for name in network.layers:
        np.testing.assert_array_equal(before[name], after[name])
        np.testing.assert_allclose(drawn[0][name], drawn[1][name], rtol=1e-5)
        assert np.abs(drawn[0][name] - drawn[2][name]).max() > 1e-3
        assert np.abs(drawn[0][name] - before[name]).max() > 1e-3


def test_a_saved_model_of_others_has_its_map_alone(tmp_path):
    class Others(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def serve(self, images):
            return {"map": images[:, ::8, ::8]}

    other = Others()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.serve})
    network = open_layers(tmp_path / "other")
    assert network.layers == ["features"] and not network.can_be_drawn
    pixels = draw_pixels(2, 64)
    found = describe_pixels(network, pixels, (1,))["features"]
    np.testing.assert_allclose(found, pixels[:, ::8, ::8].max(axis=(1, 2)) / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="whose layers can be reached"):
        network.fresh(0)


def test_a_model_of_others_is_known_by_activations_inside_its_layers(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(4, 3, strides=4, padding="same", activation="relu", name="one"),
            layers.Conv2D(5, 3, strides=2, padding="same", name="two"),
        ]
    )
    model.save(tmp_path / "model.keras")
    network = open_layers(tmp_path / "model.keras")
    assert network.layers == ["one", "features"]
    found = describe_pixels(network, draw_pixels(2, 64), (1,))
    maps = np.asarray(model(draw_pixels(2, 64).astype(np.float32)))
    np.testing.assert_allclose(found["features"], maps.max(axis=(1, 2)), rtol=1e-3)


def test_images_too_small_for_a_layer_are_refused(module):
    with pytest.raises(ValueError, match=r"scale them up .* 64 pixels a side, .* fc6_relu empty"):
        describe_pixels(open_layers(module), draw_pixels(1, 64), (1,))


def test_features_that_are_not_finite_are_refused(module):
    network = open_layers(module)
    kernel = network.model.get_layer("conv3").kernel
    kernel.assign(np.full(kernel.shape, 1e38))
    with pytest.raises(ValueError, match="NaN or infinity in conv3_relu"):
        describe_pixels(network, draw_pixels(1), (1,))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    keras.utils.set_random_seed(0)
    broken = small(width=8, num_features=16)
    kernel = broken.get_layer("conv2").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    broken.save(tmp_path / "broken.keras")
    with pytest.raises(ValueError, match="must be finite"):
        open_layers(tmp_path / "broken.keras")


def test_hog_is_the_descriptor_and_its_blocks_pooled():
    pixels = draw_pixels(2, 60)
    found = describe_by_hog(pixels, (1, 2))
    hog = HOG(60, cell=4)
    np.testing.assert_array_equal(found["hog"], hog(pixels))
    blocks = hog(pixels).reshape(2, 14, 14, 36)
    np.testing.assert_array_equal(found["hog pooled"][:, :36], blocks.max(axis=(1, 2)))
    np.testing.assert_array_equal(found["hog pooled"][:, -36:], blocks[:, 7:, 7:].max(axis=(1, 2)))
