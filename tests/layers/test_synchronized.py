"""On one device these layers are Keras's own; over several see tests/runs/test_distribution.py."""

import keras
import numpy as np
import pytest

from keras_ctxattr.layers import SynchronizedBatchNormalization, SynchronizedDropout
from tests import contracts

OPTIONS = {"center": False, "scale": False, "momentum": 0.7, "epsilon": 1e-3, "name": "norm"}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_on_one_device_it_is_batch_normalization(masked, policy):
    generator = np.random.default_rng(0)
    values = generator.normal(3, 2, (12, 5)).astype("float32")
    mask = np.arange(12) < 9 if masked else None
    ours = SynchronizedBatchNormalization(**OPTIONS, dtype=policy)
    theirs = keras.layers.BatchNormalization(**OPTIONS, dtype=policy)
    for training in (True, False):
        contracts.assert_equal(
            ours(values, training=training, mask=mask), theirs(values, training=training, mask=mask)
        )
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_survives_its_config():
    values = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    contracts.assert_survives_its_config(
        lambda: SynchronizedBatchNormalization(**OPTIONS), [values]
    )


def test_on_one_device_it_is_dropout():
    values = np.random.default_rng(2).normal(size=(7, 5)).astype("float32")
    ours, theirs = (kind(0.4, seed=3) for kind in (SynchronizedDropout, keras.layers.Dropout))
    dropped = [np.asarray(layer(values, training=True)) for layer in (ours, theirs)]
    np.testing.assert_array_equal(*dropped)
    assert (dropped[0] == 0).any()
    np.testing.assert_array_equal(ours(values), values)
