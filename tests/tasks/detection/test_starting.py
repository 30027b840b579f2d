"""Fresh weights of networks of any kind."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ctxattr.backbones.conversion import fold_batch_normalization
from keras_ctxattr.tasks.detection.starting import draw_weights


def after_activation():
    """Gives a network whose normalisation comes after the activation, folded."""
    images = keras.Input((16, 16, 3))
    found = layers.BatchNormalization()(layers.Conv2D(8, 3, activation="relu")(images))
    return fold_batch_normalization(keras.Model(images, layers.Conv2D(4, 3)(found)))


def layer_normalized():
    images = keras.Input((16, 16, 3))
    found = layers.LayerNormalization()(layers.Conv2D(8, 3)(images))
    found = layers.PReLU(shared_axes=[1, 2])(found)
    return keras.Model(images, layers.DepthwiseConv2D(3)(found))


@pytest.mark.parametrize("build", [after_activation, layer_normalized])
def test_fresh_weights_tell_images_apart(build):
    """What multiplies channels was 0: all maps after it were, and learning seemed to gain."""
    network = build()
    draw_weights(network, 3)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    maps = np.asarray(network(images))
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    again = build()
    draw_weights(again, 3)
    np.testing.assert_allclose(np.asarray(again(images)), maps, atol=1e-6)
