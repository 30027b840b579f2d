"""A network at every pixel is the network on every window."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ctxattr.backbones.conversion import dense_evaluation


def make_network(padding="valid"):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    maps = layers.Conv2D(6, 4, activation="relu", name="conv1")(inputs)
    maps = layers.MaxPooling2D(3, 2, name="pool1")(maps)
    maps = layers.Conv2D(8, 3, padding=padding, use_bias=False, name="conv2")(maps)
    maps = layers.BatchNormalization(name="norm2")(maps)
    maps = layers.ReLU(name="relu2")(maps)
    maps = layers.AveragePooling2D(2, 2, name="pool2")(maps)
    maps = layers.Conv2D(8, 3, activation="relu", name="fc1")(maps)
    maps = layers.Conv2D(5, 2, strides=3, name="strided")(maps)
    return keras.Model(inputs, layers.Conv2D(2, 1, name="last")(maps), name="contours")


def receptive_field(network):
    """Gives the least window with an output, by trying."""
    for side in range(5, 100):
        try:
            shape = network.compute_output_shape((1, side, side, 3))
        except ValueError:
            continue
        if min(shape[1:3]) >= 1:
            return side
    raise AssertionError


@pytest.fixture(scope="module")
def network():
    made = make_network()
    for weight in made.get_layer("norm2").weights:
        weight.assign(np.random.default_rng(3).uniform(0.5, 1.5, weight.shape))
    return made


@pytest.mark.parametrize("shape", [(40, 47), (52, 35), (26, 26)])
def test_every_pixel_has_what_its_window_gives(network, shape):
    window = receptive_field(network)
    images = np.random.default_rng(0).normal(0, 1, (2, *shape, 3)).astype("float32")
    found = np.asarray(dense_evaluation(network, window)(images))
    rows, columns = shape[0] - window + 1, shape[1] - window + 1
    assert found.shape == (2, rows, columns, 2)
    for row in range(rows):
        windows = np.stack(
            [
                images[number, row : row + window, column : column + window]
                for number in range(2)
                for column in range(columns)
            ]
        )
        expected = np.asarray(network(windows)).reshape(2, columns, 2)
        np.testing.assert_allclose(found[:, row], expected, atol=1e-5)


def test_it_is_saved_and_loaded(network, tmp_path):
    dense = dense_evaluation(network, receptive_field(network))
    images = np.random.default_rng(0).normal(0, 1, (1, 40, 40, 3)).astype("float32")
    dense.save(tmp_path / "dense.keras")
    loaded = keras.models.load_model(tmp_path / "dense.keras")
    np.testing.assert_array_equal(loaded(images), dense(images))


def test_padding_and_other_strides_are_refused(network):
    window = receptive_field(network)
    with pytest.raises(ValueError, match=r"pad nothing.*'conv2', padding='same'"):
        dense_evaluation(make_network(padding="same"), 24)
    with pytest.raises(ValueError, match=r"one position of a window.*of 60 pixels"):
        dense_evaluation(network, 60)
    inputs = keras.Input((None, None, 3))
    uneven = layers.MaxPooling2D(window, (1, 2))(inputs)
    with pytest.raises(ValueError, match="the same both ways"):
        dense_evaluation(keras.Model(inputs, uneven), window)
