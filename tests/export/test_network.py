"""The network of a module, built again with its weights."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ctxattr.export import copy_module, export_module, load_network, read_module
from keras_ctxattr.export.network import FILE, write_network
from keras_ctxattr.export.writing import FORMAT
from keras_ctxattr.layers import ColourProjection, MeanSubtraction
from tests.export.images import assert_close, normalize, photos, small_hasher, small_predictor


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("made") / "module"
    return export_module(small_predictor(), target, preset="paper", colour="project")


def process(images: np.ndarray) -> np.ndarray:
    """Restates what this module's module.json says is done to images in [0, 1]."""
    return np.asarray(ColourProjection()(MeanSubtraction()(255 * images)))


# --- the same function ----------------------------------------------------------------------------


def assert_same_function(folder: Path, found: object, images: np.ndarray) -> None:
    module = tf.saved_model.load(str(folder))  # its variables live as long as it is held
    assert_close(found, module.feature_map(images))


def test_network_after_its_processing_is_the_feature_map(module: Path) -> None:
    images = photos(2, 130, 170)
    found = load_network(module)(process(images))
    assert found.shape == (2, 2, 3, 16)
    assert_same_function(module, found, images)


def test_network_of_attributes_gives_their_features_of_unit_length(tmp_path: Path) -> None:
    target = export_module(small_hasher(), tmp_path / "module")
    images = photos(1, 96, 160)
    found = load_network(target)(normalize(images))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert_same_function(target, found, images)


def test_network_with_dropout_and_a_registered_layer_is_built_again(tmp_path: Path) -> None:
    # The state of the draws is among the module's variables, though not among its weights.
    backbone = network_with(Tripling(), layers.Dropout(0.5, seed=1))
    target = export_module(backbone, tmp_path / "module")
    images = photos(2, 32, 32)
    assert_close(load_network(target)(normalize(images))[:, 0, 0], backbone(normalize(images)))


def test_networks_are_their_own(module: Path) -> None:
    one, other = load_network(module), load_network(module)
    expected = other(process(photos(1))).numpy()
    for weight in one.weights:
        weight.assign(weight + 1)
    np.testing.assert_array_equal(other(process(photos(1))), expected)
    assert len(other.trainable_variables) == 5  # five kernels, whose normalisation has no scale
    assert_same_function(module, expected, photos(1))


# --- the file -------------------------------------------------------------------------------------


def test_module_is_what_it_was_without_the_file(module: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(module, tmp_path / "bare"))
    (bare / FILE).unlink()
    assert read_module(bare) == read_module(module)
    assert read_module(module)["format"] == FORMAT == 1
    images = photos(2, 100, 120)
    with_file, without = (tf.saved_model.load(str(folder)) for folder in (module, bare))
    np.testing.assert_array_equal(with_file(images), without(images))
    assert sorted(with_file.signatures) == sorted(without.signatures)


def test_copies_keep_the_file(module: Path, tmp_path: Path) -> None:
    copy = copy_module(module, tmp_path / "copy", license="MIT")
    assert (copy / FILE).read_bytes() == (module / FILE).read_bytes()
    assert_close(load_network(copy)(photos(1)), load_network(module)(photos(1)))


# --- what cannot be built -------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_network(folder)
    message = str(caught.value)
    assert "must" in message and "\n" not in message and str(folder) in message
    return message


def test_older_module_is_to_be_exported_again(module: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(module, tmp_path / "older"))
    (older / FILE).unlink()
    assert "export it again" in refusal(older)


def test_what_is_no_module_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert "must be a module" in refusal(folder)


def of_other_width(text: str) -> str:
    return text.replace('"filters": 8', '"filters": 9')


def of_unknown_layer(text: str) -> str:
    return text.replace("ReLU", "Softplusplus")


def without_its_last_layers(text: str) -> str:
    return keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(8, 8)]).to_json()


@pytest.mark.parametrize(
    "spoil",
    [
        of_other_width,
        of_unknown_layer,
        without_its_last_layers,
        lambda text: text[:500],
        lambda text: "",
        lambda text: "null",
        lambda text: "[1, 2]",
        lambda text: "{}",
        lambda text: '{"class_name": "Functional"}',
        lambda text: json.dumps({**json.loads(text), "config": {}}),
    ],
)
def test_damaged_file_is_one_clear_line(spoil, module: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(module, tmp_path / "damaged"))
    text = (damaged / FILE).read_text()
    assert spoil(text) != text
    (damaged / FILE).write_text(spoil(text))
    assert "must describe layers that Keras knows" in refusal(damaged)


def test_file_that_is_no_text_is_one_clear_line(module: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(module, tmp_path / "damaged"))
    (damaged / FILE).write_bytes(b"\xff\xfe\x00")
    assert "must describe layers that Keras knows" in refusal(damaged)


# --- layers of others -----------------------------------------------------------------------------


class Doubling(layers.Layer):
    """Not registered: Keras cannot know it in another process."""

    def call(self, maps: object) -> object:
        return 2 * maps


@keras.saving.register_keras_serializable(package="tests")
class Tripling(layers.Layer):
    def call(self, maps: object) -> object:
        return 3 * maps


class Undescribed(Doubling):
    """Can be copied, but its configuration is no JSON."""

    def __init__(self, function: object = None, **options: object) -> None:
        super().__init__(**options)
        self.function = function

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "function": object()}


def network_with(*middle: layers.Layer) -> keras.Model:
    first = [keras.Input((32, 32, 3)), layers.Conv2D(4, 4, strides=4)]
    return keras.Sequential([*first, *middle, layers.Flatten(), layers.Dense(5)])


def test_module_of_what_cannot_be_described_serves_all_the_same(tmp_path: Path) -> None:
    backbone = network_with(Undescribed())
    target = export_module(backbone, tmp_path / "module")
    images = photos(2, 32, 32)
    module = tf.saved_model.load(str(target))
    assert_close(module(images), backbone(normalize(images)))
    assert not (target / FILE).exists()
    assert "export it again" in refusal(target)


def test_layer_that_is_not_registered_is_told(module: Path, tmp_path: Path) -> None:
    unknown = Path(shutil.copytree(module, tmp_path / "unknown"))
    write_network(unknown, network_with(Doubling()))
    assert "register_keras_serializable" in refusal(unknown)
