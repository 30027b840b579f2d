"""The papers' networks, layer by layer as the specification lists them."""

import keras
import numpy as np
import pytest

from keras_ctxattr.backbones import BACKBONES, alexnet, compact, networks, small, vgg16
from keras_ctxattr.layers import CeilMaxPooling2D, LocalResponseNormalization
from tests import contracts

TINY = {
    "alexnet": lambda **options: alexnet(num_features=6, **options),
    "vgg16": lambda **options: vgg16(num_features=6, **options),
    "compact": lambda **options: compact(num_features=6, width=4, **options),
    "small": lambda **options: small(num_features=6, width=4, **options),
}
# Sides of patches, in pixels; the first is what the network is made for if none is given.
SIDES = {"alexnet": [96], "vgg16": [96], "compact": [96], "small": [32, 45, 16]}
MULTIPLES_OF_32 = sorted(BACKBONES.keys() - {"small"})


def output_sizes(model):
    """Gives {layer: (height, width, channels)}."""
    return {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}


@pytest.fixture(scope="module")
def released():
    return alexnet(num_features=16)


@pytest.fixture(scope="module")
def paper():
    return alexnet("paper", num_features=16)


# ---- shapes --------------------------------------------------------------------------------------


def test_released_alexnet_gives_pool5_of_3_at_96_pixels(released):
    sizes = output_sizes(released)
    assert sizes["conv1"] == (24, 24, 96)
    assert sizes["pool1"] == (12, 12, 96)
    assert sizes["conv2"] == (12, 12, 256)
    assert sizes["pool2"] == (6, 6, 256)
    assert sizes["conv3"] == sizes["conv4"] == (6, 6, 384)
    assert sizes["conv5"] == (6, 6, 256)
    assert sizes["pool5"] == (3, 3, 256)
    assert released.output_shape == (None, 16)


def test_released_alexnet_gives_pool5_of_7_at_227_pixels():
    model = alexnet(input_size=None, num_features=16)
    assert model.output_shape == (None, None, None, 16)
    size = {}
    for height, width in ((227, 227), (96, 227)):
        probe = keras.Model(model.input, model.get_layer("pool5").output)
        size[height, width] = tuple(probe(np.zeros((1, height, width, 3), "float32")).shape[1:])
    assert size == {(227, 227): (7, 7, 256), (96, 227): (3, 7, 256)}


def test_paper_alexnet_has_conv2_of_384_filters_and_stride_2(paper):
    sizes = output_sizes(paper)
    assert sizes["pool1"] == (12, 12, 96)
    assert sizes["conv2"] == (6, 6, 384)
    assert sizes["pool2"] == (3, 3, 384)
    assert sizes["pool5"] == (1, 1, 256)


def test_vgg16_has_thirteen_convolutions_of_3_by_3():
    model = vgg16(num_features=16)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == (
        [64] * 2 + [128] * 2 + [256] * 3 + [512] * 3 + [512] * 3
    )
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert output_sizes(model)["pool5"] == (3, 3, 512)


@pytest.mark.parametrize(
    ("side", "maps"), [(16, (8, 4, 2)), (32, (16, 8, 4)), (45, (23, 11, 5)), (64, (32, 16, 8))]
)
def test_small_halves_the_map_three_times(side, maps):
    model = small(input_size=side, num_features=16)
    sizes = output_sizes(model)
    assert sizes["conv1"] == (maps[0], maps[0], 64)
    assert sizes["pool2"] == (maps[1], maps[1], 128)
    assert sizes["pool3"] == (maps[2], maps[2], 256)
    # No bias anywhere; normalisation has neither scale nor shift.
    kernels = 4 * 4 * 3 * 64 + 9 * 64 * 128 + 9 * 128 * 256 + maps[2] ** 2 * 256 * 16
    assert model.count_params() - 2 * (64 + 128 + 256 + 16) == kernels  # less running statistics


def test_order_of_the_layers_is_pool_then_local_normalisation(released):
    kinds = {CeilMaxPooling2D: "pool", LocalResponseNormalization: "lrn", keras.layers.ReLU: "relu"}
    order = [kinds[type(layer)] for layer in released.layers if type(layer) in kinds]
    assert order == ["relu", "pool", "lrn"] * 2 + ["relu"] * 3 + ["pool", "relu"]


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "conv2", "pooled", "biased"), [("released", 256, 9, 96 + 256), ("paper", 384, 1, 0)]
)
def test_number_of_trainable_weights_is_the_one_computed_by_hand(preset, conv2, pooled, biased):
    model = alexnet(preset, num_features=16)
    kernels = 11 * 11 * 3 * 96 + 5 * 5 * 96 * conv2  # conv1, conv2: no groups
    kernels += 9 * conv2 * 384 + 9 * 384 * 384 + 9 * 384 * 256  # conv3 to conv5
    kernels += pooled * 256 * 16  # fc6
    # A bias only where no normalisation follows; normalisation has neither scale nor shift.
    assert sum(variable.value.shape.num_elements() for variable in model.trainable_variables) == (
        kernels + biased
    )


@pytest.mark.parametrize(
    ("preset", "normalized"),
    [
        ("released", ["conv3", "conv4", "conv5", "fc6"]),
        ("paper", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6"]),
    ],
)
def test_each_preset_normalises_its_layers_between_layer_and_relu(preset, normalized):
    model = alexnet(preset, num_features=16)
    names = [layer.name for layer in model.layers]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [norm.name for norm in norms] == [f"{name}_norm" for name in normalized]
    for norm in norms:
        assert norm.gamma is None
        assert norm.beta is None
        index = names.index(norm.name)
        name = norm.name.removesuffix("_norm")
        assert names[index - 1 : index + 2] == [name, norm.name, f"{name}_relu"]
        assert not model.get_layer(name).use_bias
    for name in {"conv1", "conv2"} - set(normalized):
        assert model.get_layer(name).use_bias
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.groups for layer in convolutions} == {1}


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_start_uniform_within_the_root_of_3_over_fan_in(name):
    keras.utils.set_random_seed(0)
    model = TINY[name]()
    for layer in model.layers:
        if not hasattr(layer, "kernel") or layer.kernel is None:
            continue
        kernel = np.asarray(layer.kernel)
        bound = np.sqrt(3 / np.prod(kernel.shape[:-1]))
        assert np.abs(kernel).max() <= bound * (1 + 1e-6)  # float32 rounds the bound
        if kernel.size > 500:
            assert np.abs(kernel).max() > 0.98 * bound
            assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
            assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(kernel.size)
        if layer.use_bias:
            np.testing.assert_array_equal(layer.bias, 0)


def test_activations_neither_die_nor_explode_in_the_fresh_network(released):
    patches = np.random.default_rng(0).normal(0, 50, (4, 96, 96, 3)).astype("float32")
    probe = keras.Model(released.input, [released.get_layer(f"conv{n}").output for n in (1, 2, 3)])
    for activations in probe(patches):
        assert 1 < np.asarray(activations).std() < 500


# ---- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "side"), [(name, side) for name in BACKBONES for side in SIDES[name]]
)
def test_the_convolutional_form_gives_on_a_patch_what_the_dense_form_gives(name, side):
    is_default = side == SIDES[name][0]
    dense = TINY[name](**({} if is_default else {"input_size": side}))
    convolutional = TINY[name](input_size=None, **({} if is_default else {"patch_size": side}))
    generator = np.random.default_rng(0)
    for layer in dense.layers:
        # Statistics of their own, so that normalisation is not the identity.
        weights = [w + generator.uniform(0, 0.5, w.shape) for w in layer.get_weights()]
        layer.set_weights(weights)
        other = convolutional.get_layer(layer.name) if weights else None
        if other is not None:
            other.set_weights(
                [w.reshape(o.shape) for w, o in zip(weights, other.get_weights(), strict=True)]
            )
    patches = generator.normal(0, 50, (2, side, side, 3)).astype("float32")
    features, maps = np.asarray(dense(patches)), np.asarray(convolutional(patches))
    assert features.shape == (2, 6)
    assert maps.shape == (2, 1, 1, 6)
    assert features.max() > 0
    np.testing.assert_allclose(maps[:, 0, 0], features, rtol=1e-3, atol=1e-3 * features.max())
    assert len(convolutional(np.zeros((1, 128, 160, 3), "float32")).shape) == 4


@pytest.mark.parametrize("name", ["alexnet", "compact", "small"])
def test_features_are_non_negative_and_tell_patches_apart(name):
    side = SIDES[name][0]
    patches = np.random.default_rng(0).normal(0, 50, (3, side, side, 3)).astype("float32")
    features = np.asarray(TINY[name]()(patches))
    assert features.min() >= 0
    assert len({feature.tobytes() for feature in features}) == 3


@pytest.mark.parametrize("name", ["alexnet", "compact", "small"])
def test_backbone_saves_and_reloads_with_equal_outputs(name, tmp_path):
    model, side = TINY[name](), SIDES[name][0]
    patches = np.random.default_rng(0).normal(0, 50, (2, side, side, 3)).astype("float32")
    model.save(tmp_path / "backbone.keras")
    reloaded = keras.saving.load_model(tmp_path / "backbone.keras")
    contracts.assert_equal(reloaded(patches), model(patches))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_nearly_the_features_of_float32(policy):
    patches = np.random.default_rng(0).normal(0, 50, (4, 96, 96, 3)).astype("float32")
    exact = compact(num_features=6, width=4)
    with contracts.dtype_policy(policy):
        mixed = compact(num_features=6, width=4)
    mixed.set_weights(exact.get_weights())
    (features,) = contracts.as_arrays(exact(patches))
    (rounded,) = contracts.as_arrays(mixed(patches))
    np.testing.assert_allclose(rounded, features, atol=0.05 * features.max())


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MULTIPLES_OF_32)
@pytest.mark.parametrize("size", [0, 31, 100])
def test_input_sizes_that_do_not_divide_are_refused_with_the_value(name, size):
    with pytest.raises(ValueError, match=f"`input_size`.*32.*Received: input_size={size}"):
        TINY[name](input_size=size)


@pytest.mark.parametrize(
    "options", [{"input_size": 15}, {"input_size": 0}, {"input_size": None, "patch_size": 8}]
)
def test_patches_under_16_pixels_are_too_small_for_small(options):
    with pytest.raises(ValueError, match=r"at least 16\. Received: input_size=") as caught:
        small(**options)
    assert "\n" not in str(caught.value)
    assert all(f"{name}={value}" in str(caught.value) for name, value in options.items())


def test_unknown_presets_are_named():
    with pytest.raises(ValueError, match="preset='Paper'"):
        networks.alexnet("Paper")
