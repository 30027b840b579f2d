"""The convolution with its own weight gradient equals the one it stands for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_ctxattr.layers import SmallMapConv2D


def outputs_and_gradients(layer, inputs, upstream):
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        product = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
    gradients = tape.gradient(product, [inputs, *layer.trainable_variables])
    return [np.asarray(ops.cast(value, "float32")) for value in (outputs, *gradients)]


@pytest.mark.parametrize(("size", "kernel"), [((6, 6), 3), ((5, 8), 5), ((10, 10), 1)])
def test_small_maps_in_bfloat16_equal_the_plain_convolution(size, kernel):
    rng = np.random.default_rng(0)
    # Small whole numbers: bfloat16 holds every product and sum of them exactly.
    inputs = rng.integers(-2, 3, (3, *size, 4)).astype("float32")
    upstream = rng.integers(-1, 2, (3, *size, 6)).astype("float32")
    ours = SmallMapConv2D(6, kernel, padding="same", dtype="mixed_bfloat16")
    plain = keras.layers.Conv2D(6, kernel, padding="same", dtype="float32")
    for layer in (ours, plain):
        layer.build((None, *size, 4))
    weights = [rng.integers(-1, 2, value.shape).astype("float32") for value in plain.get_weights()]
    ours.set_weights(weights)
    plain.set_weights(weights)
    results = (outputs_and_gradients(layer, inputs, upstream) for layer in (ours, plain))
    for received, expected in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=2**-7, atol=1e-6)


def test_products_serve_only_where_they_are_faster():
    half, single = keras.KerasTensor((2, 6, 6, 4), "bfloat16"), keras.KerasTensor((2, 6, 6, 4))
    layer = SmallMapConv2D(6, 3, padding="same")
    if not any("gpu" in device for device in keras.distribution.list_devices()):
        assert layer._uses_products(half)
    assert not layer._uses_products(single)
    assert not layer._uses_products(keras.KerasTensor((2, 12, 12, 4), "bfloat16"))
    assert not layer._uses_products(keras.KerasTensor((2, None, None, 4), "bfloat16"))
    assert not SmallMapConv2D(6, 3, padding="valid")._uses_products(half)
    assert not SmallMapConv2D(6, 3, strides=2, padding="same")._uses_products(half)
    assert not SmallMapConv2D(6, 2, padding="same")._uses_products(half)


def test_layer_survives_its_config():
    layer = SmallMapConv2D(6, 3, padding="same", use_bias=False, dtype="mixed_bfloat16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is SmallMapConv2D
    assert copy.get_config() == layer.get_config()
