"""Parts of networks: where the convolutional part ends, and maps by the size of their cells."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ctxattr.backbones import alexnet, compact, small
from keras_ctxattr.backbones.conversion import (
    convolutional_part,
    fully_convolutional,
    pyramid_parts,
)
from keras_ctxattr.backbones.networks import batch_normalization
from tests.backbones.trained import give_random_statistics


def images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 50, (count, height, width, 3)).astype("float32")


def assert_close(found: object, expected: object, tolerance: float = 1e-4) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


def map_of(network: keras.Model, layer: str) -> keras.Model:
    """Gives the network itself, up to a layer."""
    return keras.Model(network.inputs[0], network.get_layer(layer).output)


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    keras.utils.set_random_seed(0)
    return give_random_statistics(compact(width=8, num_features=16))


# --- the convolutional part -----------------------------------------------------------------------


def test_part_is_the_last_convolution_of_a_patch(backbone: keras.Model) -> None:
    part, patches = convolutional_part(backbone), images(3, 96, 96)
    expected = map_of(backbone, "conv4_relu")(patches)
    assert part(patches).shape == (3, 6, 6, 32)
    assert_close(part(patches), expected)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in part.layers)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_part_of_alexnet_is_conv5(preset: str) -> None:
    keras.utils.set_random_seed(0)
    network = give_random_statistics(alexnet(preset, num_features=8))
    part, patches = convolutional_part(network), images(1, 96, 96)
    assert part.output_shape == (None, None, None, 256)
    assert_close(part(patches), map_of(network, "conv5_relu")(patches))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 160), (75, 131), (300, 40)])
def test_part_takes_images_of_any_size(backbone: keras.Model, height: int, width: int) -> None:
    part = convolutional_part(backbone)
    sides = [-(-side // 4) // 4 for side in (height, width)]
    whole = images(1, height, width)
    assert part(whole).shape == (1, *sides, 32)
    # The same as the network whose own convolutional form it is.
    ours = compact(width=8, num_features=16, input_size=None)
    ours.set_weights(fully_convolutional(backbone).get_weights())
    assert_close(part(whole), map_of(ours, "conv4_relu")(whole))


def test_part_ends_at_the_layer_that_is_named(backbone: keras.Model) -> None:
    patches = images(2, 96, 96)
    for layer in ("conv3_relu", "pool4", "conv1"):
        part = convolutional_part(backbone, layer=layer)
        known = f"{layer}_norm" if layer == "conv1" else layer  # conv1 has taken its norm over
        assert_close(part(patches), map_of(backbone, known)(patches))


@pytest.mark.parametrize("layer", ["conv9", "conv4_norm"])
def test_unknown_layer_is_one_line_with_those_there_are(backbone: keras.Model, layer: str) -> None:
    with pytest.raises(ValueError, match=rf"conv4_relu.*Received: '{layer}'") as caught:
        convolutional_part(backbone, layer=layer)
    assert "\n" not in str(caught.value)


def test_the_convolutional_form_has_the_same_part() -> None:
    network = give_random_statistics_at(compact(width=8, num_features=16, input_size=None), 128)
    with_unit_length = keras.Model(network.input, layers.UnitNormalization(axis=-1)(network.output))
    whole = images(1, 128, 160)
    expected = map_of(network, "conv4_relu")(whole)
    assert_close(convolutional_part(network)(whole), expected)
    assert_close(convolutional_part(with_unit_length)(whole), expected)


def give_random_statistics_at(network: keras.Model, side: int) -> keras.Model:
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            seen = map_of(network, layer.name[: -len("_norm")])(images(2, side, side)).numpy()
            spread = generator.uniform(0.5, 2, seen.shape[-1])
            layer.moving_mean.assign(seen.mean((0, 1, 2)) * spread)
            layer.moving_variance.assign(seen.var((0, 1, 2)) * spread)
    return network


def convolve(flow, filters: int, name: str, size: int = 3, strides: int = 1):
    flow = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(
        flow
    )
    return batch_normalization(f"{name}_norm")(flow)


def residual_network(with_end: bool) -> keras.Model:
    """As ResNet-50 is built: one pooling after the stem, then blocks with shortcuts."""
    inputs = keras.Input((64, 64, 3))
    flow = layers.ReLU()(convolve(inputs, 4, "stem", 7, 2))
    flow = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(flow)
    for block, filters in enumerate((8, 12)):
        shortcut = convolve(flow, filters, f"shortcut{block}", 1, 2)
        flow = layers.ReLU()(convolve(flow, 4, f"reduce{block}", 1, 2))
        flow = convolve(flow, filters, f"expand{block}")
        flow = layers.ReLU(name=f"block{block}")(layers.Add()([shortcut, flow]))
    if with_end:
        flow = layers.Dense(5, name="top")(layers.GlobalAveragePooling2D()(flow))
    return give_random_statistics(keras.Model(inputs, flow, name="residual"))


@pytest.mark.parametrize("with_end", [False, True])
def test_part_of_a_residual_network_is_its_last_map(with_end: bool) -> None:
    network = residual_network(with_end)
    part, patches = convolutional_part(network), images(2, 64, 64)
    assert part(patches).shape == (2, 4, 4, 12)
    assert_close(part(patches), map_of(network, "block1")(patches))


def test_a_pooled_shortcut_is_not_where_a_network_ends() -> None:
    # One convolution stands after the pooling in the list of layers; the pooling saw half of what
    # the last map is made of.
    inputs = keras.Input((32, 32, 3))
    flow = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    shortcut = layers.Conv2D(6, 1, name="shortcut")(layers.MaxPooling2D(2, name="pooled")(flow))
    strided = layers.Conv2D(6, 3, strides=2, padding="same", name="strided")(flow)
    network = keras.Model(inputs, layers.Add(name="sum")([shortcut, strided]))
    patches = images(2, 32, 32)
    assert_close(convolutional_part(network)(patches), network(patches))


def network_of(*flow: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((32, 32, 3)), *flow])


def convolution(name: str, **options: object) -> layers.Conv2D:
    return layers.Conv2D(4, 3, name=name, activation="relu", **{"padding": "same", **options})


ENDS = {
    "several dense layers": (
        [convolution("last"), layers.MaxPooling2D(4), layers.Flatten(), layers.Dropout(0.5)],
        [layers.Dense(9, activation="relu"), layers.Dense(7), layers.Dense(5)],
    ),
    "fully connected layers in convolutional form": (
        [convolution("last"), layers.MaxPooling2D(4)],
        [layers.Conv2D(9, 4, activation="relu"), layers.Conv2D(7, 1), layers.Conv2D(5, 1)],
    ),
    "no pooling before the dense layers": (
        [layers.MaxPooling2D(4), convolution("first"), convolution("last", padding="valid")],
        [layers.Flatten(), layers.Dense(5)],
    ),
    "average pooling of the whole map": (
        [layers.MaxPooling2D(2), convolution("first"), convolution("last")],
        [layers.GlobalAveragePooling2D(), layers.Dense(5)],
    ),
    "convolutions alone": ([convolution("first", strides=2), convolution("last")], []),
    "convolutions after a pooling": (
        [layers.MaxPooling2D(2), convolution("first", padding="valid"), convolution("last")],
        [],
    ),
    "one padded convolution after a pooling": ([layers.MaxPooling2D(2), convolution("last")], []),
}


@pytest.mark.parametrize("case", ENDS)
def test_part_ends_with_the_last_convolution_whatever_follows(case: str) -> None:
    keras.utils.set_random_seed(0)
    kept, end = ENDS[case]
    network = network_of(*[type(one).from_config(one.get_config()) for one in (*kept, *end)])
    patches = images(2, 32, 32)
    assert_close(convolutional_part(network)(patches), map_of(network, "last")(patches))


def test_weights_of_the_part_are_its_own(backbone: keras.Model) -> None:
    part, whole = convolutional_part(backbone), images(2, 96, 128)
    before, first = [np.copy(weight) for weight in backbone.get_weights()], part(whole).numpy()
    part.compile("sgd", "mse")
    part.fit(whole, np.zeros_like(first), epochs=2, verbose=0)
    assert np.abs(part(whole) - first).max() > 1e-3 * first.max()
    assert len(part.trainable_variables) == 8  # kernel and bias of four convolutions
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# --- maps by the size of their cells --------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 224), (256, 64)])
def test_pyramid_has_maps_of_the_strides(backbone: keras.Model, height: int, width: int) -> None:
    maps = pyramid_parts(backbone, (8, 16, 32))(images(2, height, width))
    assert [tuple(one.shape) for one in maps] == [
        (2, height // stride, width // stride, channels)
        for stride, channels in ((8, 32), (16, 32), (32, 32))
    ]


def test_pyramid_has_the_last_maps_of_each_stride(backbone: keras.Model) -> None:
    patches = images(2, 96, 96)
    found = pyramid_parts(backbone, (32, 4, 16))(patches)
    for one, layer in zip(found, ("pool4", "conv2_relu", "conv4_relu"), strict=True):
        assert_close(one, map_of(backbone, layer)(patches))


def test_fully_connected_layers_are_no_level_of_a_pyramid() -> None:
    # Over one cell, as here, they give a map of the same stride as the last pooling.
    network = network_of(
        convolution("conv"), layers.MaxPooling2D(32, name="pool"), layers.Flatten(), layers.Dense(5)
    )
    (found,) = pyramid_parts(network, (32,)).outputs
    assert found.shape[-1] == 4


def test_missing_stride_is_one_line_with_those_there_are(backbone: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"Received: 64, where there are 4, 8, 16, 32$"):
        pyramid_parts(backbone, (16, 64))
    with pytest.raises(ValueError, match=r"Received: 16, where there are 2, 4, 8$"):
        pyramid_parts(small(width=4, num_features=8), (8, 16))
