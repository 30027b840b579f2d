"""The loss of normals by hand, and where it has no gradient."""

import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.normals.losses import masked_angle, masked_cosine_loss
from keras_ctxattr.tasks.normals.metrics import angular_errors

RIGHT, UP, TO_US, NONE = (1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 0)


def test_by_hand():
    """Costs 0, 1, 2 and none: the mean of three; angles of 0, 90 and 180 degrees."""
    normals = np.array([[RIGHT, UP], [TO_US, NONE]], np.float32)
    predicted = np.array([[RIGHT, RIGHT], [(0, 0, 1), UP]], np.float32)
    loss, count = masked_cosine_loss(normals, predicted)
    assert float(loss) == 1.0 and float(count) == 3
    np.testing.assert_allclose(float(masked_angle(normals, predicted)), 90, atol=1e-4)


def test_it_is_the_metric_of_the_valid_pixels():
    generator = np.random.default_rng(0)
    normals, predicted = generator.normal(size=(2, 5, 6, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    predicted /= np.linalg.norm(predicted, axis=-1, keepdims=True)
    normals[generator.random((5, 6)) < 0.4] = 0
    is_valid = normals.any(axis=-1)
    errors = angular_errors(predicted[is_valid], normals[is_valid])
    np.testing.assert_allclose(masked_angle(normals, predicted), errors.mean(), rtol=1e-4)
    loss, count = masked_cosine_loss(normals.astype(np.float16), predicted)
    np.testing.assert_allclose(loss, (1 - np.cos(np.radians(errors))).mean(), rtol=1e-3)
    assert count == is_valid.sum() and loss.dtype == "float32"


def test_pixels_without_a_normal_have_no_gradient():
    normals = np.array([[RIGHT, NONE, UP, NONE]], np.float32)
    predicted = tf.Variable(np.random.default_rng(0).normal(size=(1, 4, 3)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss, _ = masked_cosine_loss(normals, predicted)
    gradient = tape.gradient(loss, predicted).numpy()
    np.testing.assert_array_equal(gradient[0, [1, 3]], 0)
    np.testing.assert_allclose(gradient[0, [0, 2]], [(-0.5, 0, 0), (0, 0.5, 0)])


def test_nothing_valid_costs_nothing_and_is_no_nan():
    predicted = tf.Variable(np.ones((2, 3, 3)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss, count = masked_cosine_loss(np.zeros((2, 3, 3), np.float32), predicted)
    assert float(loss) == float(count) == 0
    assert float(masked_angle(np.zeros((2, 3, 3), np.float32), predicted)) == 0
    np.testing.assert_array_equal(tape.gradient(loss, predicted), np.zeros((2, 3, 3)))
