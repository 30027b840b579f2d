from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ctxattr.backbones import alexnet, compact, small, vgg16
from keras_ctxattr.backbones.conversion import (
    ChannelAffine,
    fold_batch_normalization,
    fully_convolutional,
)
from keras_ctxattr.backbones.networks import batch_normalization
from keras_ctxattr.export import export_module, read_module
from tests import contracts
from tests.backbones.trained import give_random_normalization, give_random_statistics
from tests.export.images import normalize, photos


def images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 50, (count, height, width, 3)).astype("float32")


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    return give_random_statistics(compact(width=8, num_features=16))


def unpadded_net() -> keras.Model:
    """No padding and stride 2 in all: position (r, c) must see exactly the patch at (2r, 2c)."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(5, activation="tanh", name="fc"),
            layers.Dense(3, name="top"),
        ],
        name="unpadded",
    )


# --- the form that slides -------------------------------------------------------------------------


def test_both_forms_agree_on_one_patch(backbone: keras.Model) -> None:
    patches = images(3, 96, 96)
    found = fully_convolutional(backbone)(patches)
    assert found.shape == (3, 1, 1, 16)
    assert_close(found[:, 0, 0], backbone(patches))


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_both_forms_of_alexnet_agree_on_one_patch(preset: str) -> None:
    network = give_random_statistics(alexnet(preset, num_features=8))
    patches = images(1, 96, 96)
    assert_close(fully_convolutional(network)(patches)[:, 0, 0], network(patches))


@pytest.mark.parametrize("side", [16, 32, 45])
def test_both_forms_of_small_agree_on_one_patch_whatever_its_side(side: int) -> None:
    network = give_random_statistics(small(input_size=side, width=8, num_features=16))
    patches = images(3, side, side)
    converted = fully_convolutional(network)
    found = converted(patches)
    assert found.shape == (3, 1, 1, 16)
    assert_close(found[:, 0, 0], network(patches))
    assert_close(fold_batch_normalization(network)(patches), network(patches))
    # Our own convolutional form for such patches is the same function; positions are 8 pixels
    # apart, or nearly: 45 pixels give maps of 23, 11 and 5.
    ours = small(input_size=None, patch_size=side, width=8, num_features=16)
    ours.set_weights(converted.get_weights())
    whole = images(2, side + 16, side + 8)
    assert converted(whole).shape == (2, 3, 2, 16)
    assert_close(ours(whole), converted(whole))


@pytest.mark.parametrize("side", [32, 45])
def test_module_of_small_gives_the_features_of_its_patches(side: int, tmp_path: Path) -> None:
    network = give_random_statistics(small(input_size=side, width=8, num_features=16))
    folder = export_module(network, tmp_path / "module")
    assert read_module(folder)["input"]["min_side"] == side
    patches = photos(3, side, side)
    assert_close(tf.saved_model.load(str(folder))(patches), network(normalize(patches)))


def test_without_padding_every_position_is_the_patch_it_sees() -> None:
    network = unpadded_net()
    whole = images(2, 22, 19)
    found = fully_convolutional(network)(whole).numpy()
    assert found.shape == (2, 4, 2, 3)
    for row in range(4):
        for column in range(2):
            patch = whole[:, 2 * row : 2 * row + 16, 2 * column : 2 * column + 16]
            assert_close(found[:, row, column], network(patch))


def test_with_padding_positions_see_beyond_their_patch(backbone: keras.Model) -> None:
    # Stride 32: position (0, 0) of a larger image sees the patch's neighbours where the patch
    # itself sees zeros. Stated in the docstring; here so that nobody relies on the contrary.
    whole = images(1, 128, 128)
    found = fully_convolutional(backbone)(whole)[:, 0, 0].numpy()
    alone = backbone(whole[:, :96, :96]).numpy()
    assert np.abs(found - alone).max() > 1e-3 * np.abs(alone).max()


def test_alexnet_has_the_maps_of_the_paper_at_227_pixels() -> None:
    network = fully_convolutional(alexnet(num_features=8))
    pooled = keras.Model(network.input, network.get_layer("pool5").output)
    assert pooled(images(1, 227, 227)).shape == (1, 7, 7, 256)
    assert network(images(1, 227, 227)).shape == (1, 5, 5, 8)


def test_our_own_convolutional_form_has_the_same_layers(backbone: keras.Model) -> None:
    ours = compact(width=8, num_features=16, input_size=None)
    converted = fully_convolutional(backbone)
    assert len(converted.layers) == len(ours.layers)
    for found, layer in zip(converted.layers, ours.layers, strict=True):
        assert found.name == layer.name
        assert isinstance(found, type(layer))
    ours.set_weights(converted.get_weights())
    whole = images(1, 160, 128)
    assert_close(ours(whole), converted(whole))


def test_converted_model_saves_and_reloads(backbone: keras.Model, tmp_path: Path) -> None:
    converted = fully_convolutional(backbone)
    converted.save(tmp_path / "converted.keras")
    reloaded = keras.saving.load_model(tmp_path / "converted.keras")
    whole = images(1, 128, 160)
    np.testing.assert_array_equal(reloaded(whole), converted(whole))


def test_large_kernels_convolve_too() -> None:
    network = keras.Sequential([keras.Input((9, 9, 3)), layers.Flatten(), layers.Dense(2)])
    converted = fully_convolutional(network)
    assert_close(converted(images(2, 9, 9))[:, 0, 0], network(images(2, 9, 9)))
    assert converted(images(1, 12, 10)).shape == (1, 4, 2, 2)


def test_what_is_convolutional_already_is_copied() -> None:
    network = compact(width=8, num_features=16, input_size=None)
    whole = images(1, 128, 160)
    assert_close(fully_convolutional(network)(whole), network(whole))


def test_global_pooling_becomes_pooling_over_the_map_of_a_patch() -> None:
    inputs = keras.Input((None, None, 3))
    maps = layers.Conv2D(4, 4, strides=4, activation="relu")(inputs)
    pooled = layers.GlobalAveragePooling2D()(maps)
    network = keras.Model(inputs, layers.Dense(2)(pooled))
    whole = images(1, 40, 32)
    found = fully_convolutional(network, patch_size=32)(whole).numpy()
    assert found.shape == (1, 3, 1, 2)
    for row in range(3):
        assert_close(found[:, row, 0], network(whole[:, 4 * row : 4 * row + 32]))


def test_branches_nested_models_and_operations_convert() -> None:
    block_input = keras.Input((8, 8, 4))
    normalized = layers.BatchNormalization(name="norm")(block_input)
    block = keras.Model(block_input, layers.Conv2D(4, 3, padding="same")(normalized) + block_input)
    inputs = keras.Input((32, 32, 3))
    maps = block(layers.Conv2D(4, 4, strides=4)(inputs))
    both = [layers.Dense(6)(layers.Flatten()(maps)), layers.GlobalMaxPooling2D()(maps)]
    network = keras.Model(inputs, layers.Concatenate()(both))
    converted = fully_convolutional(network)
    patches = images(2, 32, 32)
    assert_close(converted(patches)[:, 0, 0], network(patches))
    assert converted(images(1, 40, 48)).shape == (1, 3, 5, 10)


# --- without normalisation ------------------------------------------------------------------------


def has_normalization(model: keras.Model) -> bool:
    return any(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


def test_folded_equals_unfolded(backbone: keras.Model) -> None:
    folded = fold_batch_normalization(backbone)
    assert not has_normalization(folded)
    assert folded.count_params() < backbone.count_params()
    patches = images(3, 96, 96)
    assert_close(folded(patches), backbone(patches))


def test_scale_shift_bias_and_depthwise_kernels_fold() -> None:
    network = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
            layers.BatchNormalization(epsilon=0.1),
            layers.ReLU(),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
            layers.BatchNormalization(center=False),
        ]
    )
    generator = np.random.default_rng(2)
    network.set_weights([generator.uniform(0.5, 2, w.shape) for w in network.get_weights()])
    folded = fold_batch_normalization(network)
    assert not has_normalization(folded)
    assert_close(folded(images(2, 12, 12)), network(images(2, 12, 12)))


def test_normalisation_elsewhere_becomes_one_scale_and_offset_a_channel() -> None:
    inputs = keras.Input((8, 8, 3))
    first = layers.BatchNormalization(name="of_the_input")(inputs)
    shared = layers.Conv2D(4, 3, padding="same", name="conv")(first)
    one = layers.BatchNormalization(name="one_of_two_uses")(shared)
    rows = layers.BatchNormalization(axis=1, name="of_the_rows")(layers.Conv2D(4, 3)(shared))
    both = [layers.GlobalMaxPooling2D()(maps) for maps in (shared, one, rows)]
    vector = layers.Dense(6, activation="relu")(layers.Concatenate()(both))
    twice = layers.BatchNormalization(name="called_twice")
    again = twice(layers.Dense(6, name="between")(twice(vector)))
    network = give_random_normalization(keras.Model(inputs, again))
    folded = fold_batch_normalization(network)
    assert not has_normalization(folded)
    kept = {layer.name for layer in folded.layers if isinstance(layer, ChannelAffine)}
    assert kept == {"of_the_input", "one_of_two_uses", "of_the_rows", "called_twice"}
    assert_close(folded(images(4, 8, 8)), network(images(4, 8, 8)))


def mobilenet(shape: tuple[int, ...]) -> keras.Model:
    return keras.applications.MobileNetV2(
        shape, alpha=0.35, weights=None, include_top=False, pooling="avg"
    )


def preactivated(shape: tuple[int, ...]) -> keras.Model:
    """Blocks of ResNetV2, and of DenseNet: they concatenate where those add."""
    inputs = keras.Input(shape)
    maps = layers.Conv2D(8, 3, strides=2, name="stem")(inputs)
    for join in (layers.Add(), layers.Concatenate(), layers.Add()):
        before = layers.ReLU()(layers.BatchNormalization()(maps))
        branch = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(before))
        branch = layers.Conv2D(maps.shape[-1], 3, padding="same")(layers.ReLU()(branch))
        maps = join([maps, branch])
    maps = layers.BatchNormalization()(layers.AveragePooling2D(2)(maps))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.ReLU()(maps)))


def separable(shape: tuple[int, ...]) -> keras.Model:
    convolve, norm = layers.SeparableConv2D, layers.BatchNormalization
    steps = [convolve(6, 3, use_bias=False), norm(), layers.ReLU(), convolve(4, 3), norm()]
    return keras.Sequential([keras.Input(shape), *steps, layers.GlobalAveragePooling2D()])


def assert_folds(network: keras.Model) -> None:
    give_random_normalization(network)
    folded = fold_batch_normalization(network)
    assert not has_normalization(folded)
    patches = images(2, *network.input_shape[1:3])
    assert_close(folded(patches), network(patches))


@pytest.mark.parametrize(
    "make_backbone",
    [
        lambda: alexnet("released", input_size=32, num_features=64),
        lambda: alexnet("paper", input_size=64, num_features=64),
        lambda: vgg16(input_size=32, num_features=64),
        lambda: compact(input_size=32),
        lambda: small(input_size=32),
        lambda: mobilenet((32, 32, 3)),
        lambda: preactivated((32, 32, 3)),
        lambda: separable((32, 32, 3)),
    ],
    ids=["released", "paper", "vgg", "compact", "small", "mobile", "preactivated", "separable"],
)
def test_any_backbone_is_the_same_function_without_normalisation(make_backbone: object) -> None:
    assert_folds(make_backbone())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50V2", "DenseNet121", "Xception"])
def test_known_backbones_are_the_same_function_without_normalisation(name: str) -> None:
    side = 71 if name == "Xception" else 32
    make_backbone = getattr(keras.applications, name)
    options = {"weights": None, "include_top": False, "pooling": "avg"}
    assert_folds(make_backbone(input_shape=(side, side, 3), **options))


def test_scale_and_offset_keep_the_contracts_of_our_layers() -> None:
    maps = [images(2, 4, 5)]

    def make_layer() -> ChannelAffine:
        return ChannelAffine(1, name="affine")

    contracts.assert_survives_its_config(make_layer, maps)
    contracts.assert_works_in_a_functional_model(make_layer, maps)
    for policy in contracts.POLICIES:
        with contracts.dtype_policy(policy):
            contracts.assert_symbolic_call_tells_shape_and_dtype(make_layer, maps)


def test_folded_model_with_scales_and_offsets_slides_and_reloads(tmp_path: Path) -> None:
    network = give_random_normalization(preactivated((32, 32, 3)))
    folded = fold_batch_normalization(network)
    patches = images(1, 32, 32)
    sliding = fully_convolutional(folded)
    assert_close(sliding(patches)[:, 0, 0], network(patches))
    folded.save(tmp_path / "folded.keras")
    reloaded = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(reloaded(patches), folded(patches))


def test_folding_and_sliding_commute(backbone: keras.Model) -> None:
    whole = images(1, 160, 128)
    one = fold_batch_normalization(fully_convolutional(backbone))(whole)
    other = fully_convolutional(fold_batch_normalization(backbone))(whole)
    assert_close(one, other)
    assert_close(one, fully_convolutional(backbone)(whole))


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [fully_convolutional, fold_batch_normalization])
def test_half_precision_backbone_becomes_float32(convert: object) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = compact(width=8, num_features=16)
        converted = convert(half)  # under the training's policy, as in a training script
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in converted.layers[1:]} == {"float32"}
    assert converted(images(2, 96, 96)).dtype == "float32"
    full = compact(width=8, num_features=16)
    full.set_weights(half.get_weights())
    assert_close(np.ravel(converted(images(2, 96, 96))), np.ravel(full(images(2, 96, 96))))


@pytest.mark.parametrize("convert", [fully_convolutional, fold_batch_normalization])
def test_the_original_is_left_alone(backbone: keras.Model, convert: object) -> None:
    before, nodes = backbone.get_weights(), backbone.get_layer("conv1").output
    converted = convert(backbone)
    for variable in converted.variables:
        variable.assign(variable + 1)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert backbone.get_layer("conv1").output is nodes  # its layers were not called once more


def test_regularisation_and_freezing_are_kept() -> None:
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, trainable=False),
            layers.Flatten(),
            layers.Dense(4, kernel_regularizer="l2"),
        ]
    )
    converted = fully_convolutional(network)
    assert len(converted.trainable_variables) == 2
    np.testing.assert_allclose(converted.losses[0], network.losses[0], rtol=1e-6)


def test_vgg_keeps_its_shapes() -> None:
    network = vgg16(input_size=32, num_features=8)
    assert fully_convolutional(network).compute_output_shape((1, 96, 64, 3)) == (1, 3, 2, 8)


class OwnCall(keras.Model):
    def call(self, patches: object) -> object:
        return patches


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (OwnCall(), "has no graph to convert. Received: OwnCall"),
        ([layers.Flatten()], r"gives \(None, None, None, 3\) where 192"),
        ([layers.Flatten(), layers.BatchNormalization(name="late")], "BatchNormalization 'late'"),
        (
            [layers.Reshape((8, 24), name="rows"), layers.Flatten(), layers.Dense(2)],
            r"gives \(None, 2\)",
        ),
        ([layers.Lambda(lambda patches: 2 * patches, name="twice"), layers.Flatten()], "'twice'"),
    ],
)
def test_what_cannot_slide_is_one_clear_error(network: object, reason: str) -> None:
    if isinstance(network, list):
        network = keras.Sequential([keras.Input((8, 8, 3)), *network])
    with pytest.raises(ValueError, match=reason) as caught:
        fully_convolutional(network)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            [
                layers.Reshape((8, 24)),
                layers.TimeDistributed(batch_normalization("in"), name="out"),
            ],
            "TimeDistributed 'out'",
        ),
        ([lambda maps: batch_normalization("fresh")(maps, training=True)], "'fresh'"),
    ],
)
def test_normalisation_that_cannot_be_replaced_is_one_clear_error(
    steps: list[object], reason: str
) -> None:
    inputs = maps = keras.Input((8, 8, 3))
    for step in steps:
        maps = step(maps)
    with pytest.raises(ValueError, match=f"must be a layer of its graph.*{reason}"):
        fold_batch_normalization(keras.Model(inputs, maps))
