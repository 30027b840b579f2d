"""Pooling rounds as Caffe does."""

import keras
import numpy as np
import pytest

from keras_ctxattr.layers import CeilMaxPooling2D
from tests import restatements as plain

SIDES = [(24, 24), (12, 12), (6, 6), (57, 57), (28, 28), (14, 14), (7, 7), (3, 3), (2, 2)]
OTHERS = [(57, 28), (28, 57), (5, 4), (2, 9), (13, 6)]


def activations_of(height, width, seed=0):
    generator = np.random.default_rng(seed)
    return np.maximum(generator.normal(size=(2, height, width, 3)), 0).astype("float32")


@pytest.mark.parametrize(("height", "width"), SIDES + OTHERS)
@pytest.mark.parametrize("is_static", [True, False])
def test_pooling_equals_a_loop_over_windows(height, width, is_static):
    activations = activations_of(height, width)
    inputs = keras.Input((height, width, 3) if is_static else (None, None, 3))
    model = keras.Model(inputs, CeilMaxPooling2D()(inputs))
    pooled = np.asarray(model(activations))
    np.testing.assert_array_equal(pooled, plain.pool_in_ceil_mode(activations))
    if is_static:
        assert model.output_shape == (None, *pooled.shape[1:])
    else:
        assert model.output_shape == (None, None, None, 3)


def test_the_sides_of_the_papers_networks():
    def pool(side):
        return CeilMaxPooling2D().compute_output_shape((None, side, side, 3))[1:3]

    chain = {24: 12, 12: 6, 6: 3, 57: 28, 28: 14, 14: 7}
    assert {side: pool(side) for side in chain} == {
        side: (pooled, pooled) for side, pooled in chain.items()
    }


def test_one_unknown_side_is_enough_to_be_ready_for_odd_ones():
    inputs = keras.Input((24, None, 3))
    model = keras.Model(inputs, CeilMaxPooling2D()(inputs))
    for width in (9, 10):
        activations = activations_of(24, width)
        np.testing.assert_array_equal(model(activations), plain.pool_in_ceil_mode(activations))
