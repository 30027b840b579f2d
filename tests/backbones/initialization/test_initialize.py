import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_ctxattr.backbones import compact, fold_batch_normalization, small
from keras_ctxattr.backbones.initialization import initialize_from_batches
from keras_ctxattr.backbones.initialization.affine import moments, respond
from tests.backbones.initialization.networks import batches, chain, images


def responses(model: keras.Model, name: str, inputs: np.ndarray) -> np.ndarray:
    layer = model.get_layer(name)
    return respond(layer, keras.Model(model.input, layer.input)(inputs)).numpy()


def assert_unit_responses(
    model: keras.Model, name: str, inputs: np.ndarray, tolerance: float = 1e-3
) -> None:
    mean, deviation = moments([responses(model, name, inputs)])
    np.testing.assert_allclose(deviation, 1, atol=tolerance)
    np.testing.assert_allclose(mean, 0.1, atol=tolerance)


def test_one_weight_by_hand() -> None:
    values = np.array([[1.0], [2.0], [3.0], [6.0]], "float32")  # mean 3, variance 3.5
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, name="only")])
    initialize_from_batches(model, [values[:2], values[2:]], method="pca", calibrate=False)
    kernel, bias = (weight.item() for weight in model.get_weights())
    assert abs(kernel) == pytest.approx(3.5**-0.5, rel=1e-5)
    assert bias == pytest.approx(0.1 - 3 * kernel, rel=1e-5)


@pytest.mark.parametrize("method", ["kmeans", "pca", "gaussian"])
def test_every_channel_responds_with_deviation_1_also_to_fresh_images(method: str) -> None:
    model, used = chain(), images(4096)
    report = initialize_from_batches(model, np.split(used, 8), method=method, calibrate=False)
    assert list(report.methods) == list(report.stds) == ["conv1", "conv2", "hidden", "top"]
    assert set(report.methods.values()) == {method}
    assert report.calibration is None
    for name, stds in report.stds.items():
        np.testing.assert_allclose(stds, 1, atol=1e-3)
        assert_unit_responses(model, name, used)
        assert_unit_responses(model, name, images(4096, seed=1), 0.1)


def test_transferred_layers_stay_bit_for_bit_in_stage_1() -> None:
    model = chain()
    before = {layer.name: layer.get_weights() for layer in model.layers}
    report = initialize_from_batches(
        model, batches(), transferred=("conv1", "hidden"), calibrate=False
    )
    assert list(report.methods) == ["conv2", "top"]
    assert np.abs(report.stds["conv1"] - 1).max() > 0.01
    for name in ("conv1", "hidden"):
        for old, new in zip(before[name], model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    for name in ("conv2", "top"):
        assert_unit_responses(model, name, np.concatenate(batches()))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    models = [chain(), chain(), chain()]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        initialize_from_batches(model, batches(), seed=seed)
    first, same, other = (model.get_weights() for model in models)
    for one, two, three in zip(first, same, other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
        assert np.abs(one - three).max() > 0.01 * np.abs(one).max()


def regions_model() -> keras.Model:
    """Crops of a map at the corners of regions, through dense layers, to two outputs."""
    pictures = keras.Input((16, 16, 3), name="pictures")
    corners = keras.Input((5,), dtype="int32", name="corners")
    maps = layers.Conv2D(6, 3, activation="relu", name="conv")(pictures)
    pooled = layers.MaxPooling2D(2)(maps)  # [batch, 7, 7, 6]
    rows = ops.take_along_axis(
        layers.Reshape((7, 42))(pooled), layers.Reshape((5, 1))(corners), axis=1
    )
    hidden = layers.Dense(8, activation="relu", name="hidden")(rows)
    ends = [layers.Dense(3, name="classes")(hidden), layers.Dense(4, name="offsets")(hidden)]
    return keras.Model([pictures, corners], ends)


def test_two_inputs_regions_and_two_outputs() -> None:
    generator = np.random.default_rng(0)
    inputs = [
        {"pictures": pictures, "corners": generator.integers(0, 7, (64, 5))}
        for pictures in batches()
    ]
    model, twin = regions_model(), regions_model()
    report = initialize_from_batches(model, inputs)
    assert set(report.methods) == {"conv", "hidden", "classes", "offsets"}
    for stds in report.stds.values():
        np.testing.assert_allclose(stds, 1, atol=1e-3)
    assert report.calibration.spread < 0.05
    # A list in the model's order is the same, and so is a dataset.
    lists = tf.data.Dataset.from_tensor_slices(
        tuple(np.concatenate([one[name] for one in inputs]) for name in ("pictures", "corners"))
    )
    initialize_from_batches(twin, lists.batch(64))
    for one, two in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_groups_depthwise_and_activations_within_layers() -> None:
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, activation="tanh", name="first")(inputs)
    maps = layers.Conv2D(6, 3, groups=2, name="groups")(maps)
    maps = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise")(maps)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(maps))
    report = initialize_from_batches(model, batches(2), calibrate=False)
    assert report.methods == {"first": "kmeans", "groups": "kmeans", "depthwise": "gaussian"}
    for name in report.methods:
        assert_unit_responses(model, name, np.concatenate(batches(2)))
    assert model.get_layer("first").activation is keras.activations.tanh


def test_channels_that_do_not_vary_respond_with_the_mean() -> None:
    inputs = keras.Input((6,))
    hidden = layers.Dense(4, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="top")(hidden))
    constant = np.full((32, 6), 3.0, "float32")
    report = initialize_from_batches(model, [constant], calibrate=False)
    assert set(report.methods.values()) == {"gaussian"}
    np.testing.assert_allclose(model(constant), 0.1, atol=1e-4)
    np.testing.assert_allclose(report.stds["top"], 0, atol=1e-4)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_nested_models_are_entered_and_stand_for_their_layers() -> None:
    backbone = fold_batch_normalization(small(input_size=16, width=4, num_features=8))
    model = keras.Sequential([keras.Input((16, 16, 3)), backbone, layers.Dense(2, name="top")])
    before = backbone.get_weights()
    report = initialize_from_batches(
        model, batches(2), transferred={backbone.name}, calibrate=False
    )
    assert list(report.methods) == ["top"]
    assert len(report.stds) == 5
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert list(initialize_from_batches(model, batches(2)).methods) == list(report.stds)


def test_frozen_layers_and_augmentations_are_run_as_in_inference() -> None:
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, name="frozen", trainable=False)(layers.RandomFlip()(inputs))
    scores = layers.Dense(2, name="top")(layers.Flatten()(layers.ReLU()(maps)))
    model = keras.Model(inputs, scores)
    report = initialize_from_batches(model, batches(2), transferred=["frozen"])
    assert report.calibration.converged
    assert not model.get_layer("frozen").trainable
    np.testing.assert_allclose(report.stds["top"], 1, atol=1e-3)


@pytest.mark.data
def test_photographs_that_were_not_used_respond_alike(data_folder: Path) -> None:
    with tarfile.open(data_folder / "imagenet_sample_300.tar") as archive:
        files = [archive.extractfile(one).read() for one in archive if one.isfile()]
    pixels = [tf.image.decode_jpeg(file, channels=3) for file in files]
    photos = np.stack([tf.image.resize(one, (64, 64)).numpy() for one in pixels]) - 118
    model = fold_batch_normalization(compact(input_size=64, width=8, num_features=16))
    initialize_from_batches(model, np.split(photos[::2], 3), calibrate=False)
    for name in ("conv1", "conv2", "conv3"):
        assert_unit_responses(model, name, photos[::2])
        _, fresh = moments([responses(model, name, photos[1::2])])
        assert np.abs(fresh - 1).mean() < 0.1, name


def with_layers(*steps: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((16, 16, 3)), *steps])


@pytest.mark.parametrize(
    ("make_model", "options", "reason"),
    [
        (chain, {"method": "zca"}, r"one of \('kmeans', 'pca', 'gaussian'\). Received.*'zca'"),
        (chain, {"max_rounds": 0}, "max_rounds=0"),
        (chain, {"transferred": ["conv9"]}, r"Received: \['conv9'\]"),
        (chain, {"batches": []}, "at least one batch"),
        (chain, {"batches": [(images(2), images(2))]}, "Received: 2 of 1"),
        (chain, {"batches": [{"other": images(2)}]}, "Received: 0 of 1"),
        (chain, {"batches": [images(2) * np.nan]}, "must be finite"),
        (lambda: small(input_size=16), {}, "no batch normalisation.*'conv1_norm'"),
        (lambda: with_layers(layers.Conv2D(2, 3, use_bias=False, name="bare")), {}, "'bare'"),
        (lambda: with_layers(layers.SeparableConv2D(2, 3, name="two")), {}, "SeparableConv2D"),
        (lambda: with_layers(layers.Conv2D(2, 3, dtype="mixed_bfloat16")), {}, "in float32"),
        (lambda: with_layers(layers.Dense(2, activation="softmax", name="end")), {}, "'end'"),
        (lambda: with_layers(layers.Dense(2), layers.Softmax(name="end")), {}, "'end'"),
        (
            lambda: with_layers(
                layers.Dense(3, name="same"),
                with_layers(layers.Dense(2, name="same")),
            ),
            {},
            r"Received twice: \['same'\]",
        ),
        (keras.Sequential, {}, "Received: Sequential"),
    ],
)
def test_what_cannot_be_initialised_is_one_clear_error(
    make_model: object, options: dict[str, object], reason: str
) -> None:
    model = make_model()
    given = options.pop("batches", [images(2)])
    before = model.get_weights()
    with pytest.raises(ValueError, match=reason) as caught:
        initialize_from_batches(model, given, **options)
    assert "\n" not in str(caught.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
