import keras
import numpy as np
import pytest
from keras import layers

from keras_ctxattr.backbones.conversion import ChannelAffine
from keras_ctxattr.backbones.initialization import initialize_from_batches
from keras_ctxattr.backbones.initialization.calibration import calibrate_layers, gradient_ratios
from tests.backbones.initialization.networks import batches, chain, images


def test_two_weights_by_hand() -> None:
    # y = w2 (w1 x + b1) + b2: the gradients are w2 s and w1 s, so that equal ratios mean equal
    # weights; their product stays, and each bias is scaled by what came before it.
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1), layers.Dense(1)])
    model.set_weights([np.full((1, 1), 8.0), np.zeros(1), np.full((1, 1), 2.0), np.full(1, 5.0)])
    values = np.array([[1.0], [2.0], [-0.5]], "float32")
    before = model(values).numpy()
    done = calibrate_layers(model, [[values]], max_rounds=10, seed=0)
    kernel1, bias1, kernel2, bias2 = (weight.item() for weight in model.get_weights())
    assert (kernel1, bias1, kernel2, bias2) == pytest.approx((4, 0, 4, 5), rel=1e-5)
    np.testing.assert_allclose(model(values), before, rtol=1e-5)
    first, second = done.ratios_before.values()
    assert first / second == pytest.approx(1 / 16, rel=1e-5)
    assert done.num_rounds == 1
    assert done.converged


def test_chain_keeps_its_outputs_and_learns_at_one_rate() -> None:
    model = chain()
    initialize_from_batches(model, batches(), calibrate=False)
    model.get_layer("conv2").kernel.assign(0.01 * model.get_layer("conv2").kernel)
    fresh = images(100, seed=3)
    before = model(fresh).numpy()
    done = calibrate_layers(model, [[batch] for batch in batches()], max_rounds=10, seed=0)
    assert done.converged
    assert done.num_rounds == 1
    assert max(done.ratios_before.values()) > 10 * min(done.ratios_before.values())
    assert max(done.ratios_after.values()) < 1.001 * min(done.ratios_after.values())
    after = model(fresh).numpy()
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))


def test_ratios_stay_near_one_another_under_other_gradients() -> None:
    model = chain()
    done = initialize_from_batches(model, batches()).calibration
    ratios = gradient_ratios(model, [[batch] for batch in batches()], seed=77)
    assert list(ratios) == list(done.ratios_after)
    assert max(ratios.values()) < 1.5 * min(ratios.values())


def test_normalisation_takes_more_rounds_and_the_report_tells() -> None:
    model = chain(normalize=True)
    report = initialize_from_batches(model, batches(), max_rounds=1).calibration
    assert report.num_rounds == 1
    assert report.converged == (report.spread < 0.01)
    more = initialize_from_batches(model, batches(), max_rounds=10).calibration
    assert more.converged
    assert 1 < more.num_rounds <= 10


def test_offsets_of_folded_normalisation_follow_like_biases() -> None:
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(6, 3, activation="relu", name="conv1")(inputs)
    maps = layers.Conv2D(6, 3, name="conv2", use_bias=False)(ChannelAffine(name="affine")(maps))
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(layers.ReLU()(maps)))
    model.get_layer("affine").set_weights([np.linspace(0.5, 2, 6), np.linspace(-30, 30, 6)])
    before = model(images(20)).numpy()
    calibrate_layers(model, [[batch] for batch in batches(2)], max_rounds=10, seed=0)
    np.testing.assert_allclose(model(images(20)), before, atol=1e-4 * np.abs(before).max())


def test_transferred_layers_are_scaled_as_a_whole() -> None:
    model = chain()
    before = np.asarray(model.get_layer("conv1").kernel)
    initialize_from_batches(model, batches(), transferred=["conv1"])
    after = np.asarray(model.get_layer("conv1").kernel)
    factors = after / before
    assert factors.std() < 1e-5 * factors.mean()
    assert abs(factors.mean() - 1) > 0.01


def test_layer_without_gradients_is_one_clear_error() -> None:
    model = chain()
    model.get_layer("hidden").set_weights([np.zeros((108, 10)), np.zeros(10)])
    with pytest.raises(ValueError, match="Each layer of `model` must have weights that are not"):
        initialize_from_batches(model, batches(1), transferred=["hidden"])
