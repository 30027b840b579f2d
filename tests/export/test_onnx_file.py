"""Modules as ONNX files: the same numbers, errors instead of other ones, nothing half written."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import alexnet, small
from keras_ctxattr.export import export_module, export_onnx, onnx_file, read_module
from tests.backbones.trained import give_random_statistics
from tests.export.images import assert_close, photos, small_hasher, small_predictor

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Gives what a runtime computes from a file, by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [result.name for result in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("onnx") / "module"
    return export_module(small_hasher(), target, unit="image", license="MIT")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    return export_onnx(folder)


@pytest.mark.parametrize("size", [(3, 96, 96), (1, 97, 300), (2, 250, 120)])
def test_a_runtime_gives_what_the_module_gives_of_any_size(
    folder: Path, file: Path, size: tuple
) -> None:
    assert file == folder / "model.onnx"
    module, images = tf.saved_model.load(str(folder)), photos(*size, seed=4)
    found = run(file, images)
    assert list(found) == ["features", "attributes", "codes"]
    assert_close(found["features"], module(images))
    assert_close(found["attributes"], module.attributes(images))
    assert found["codes"].dtype == np.uint8
    assert np.abs(found["attributes"]).min() > 1e-5  # or rounding would decide bits
    np.testing.assert_array_equal(found["codes"], module.codes(images))
    np.testing.assert_array_equal(found["codes"], np.packbits(found["attributes"] > 0, axis=1))


def test_the_module_is_as_it_was_and_described_in_the_file(folder: Path, file: Path) -> None:
    model = onnx.load(file)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["module"]) == read_module(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("saved_model.pb", "fingerprint.pb", "variables", "assets", "module.json"),
        *("network.json", "model.onnx"),
    }
    assert str(folder).encode() not in file.read_bytes()


def test_an_image_smaller_than_a_patch_is_an_error_here_too(file: Path) -> None:
    """A file has no assertions: what they guarded was padded with zeros, and features came out."""
    with pytest.raises(Exception, match="images_must_be_at_least_96_pixels_a_side"):
        run(file, photos(1, 95, 200))


def grouped() -> keras.Model:
    patches = keras.Input((96, 96, 3))
    flow = keras.layers.Conv2D(16, 8, strides=4, activation="relu")(patches)
    flow = keras.layers.Conv2D(16, 3, groups=2, padding="same", activation="relu")(flow)
    flow = keras.layers.Flatten()(keras.layers.MaxPooling2D(4)(flow))
    return keras.Model(patches, keras.layers.Dense(8)(flow), name="grouped")


@pytest.mark.parametrize(
    ("make", "preset"),
    [
        (lambda: small(width=8, num_features=16), "released"),
        (lambda: alexnet("paper", num_features=16), "paper"),
        # Keras compiles these into a function of their own, which onnxruntime refused.
        (grouped, "released"),
    ],
    ids=["small", "alexnet", "grouped convolutions"],
)
def test_networks_of_all_kinds_become_files(make, preset: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    folder = export_module(give_random_statistics(make()), tmp_path / "module", preset=preset)
    images = photos(2, 120, 140)
    found = run(export_onnx(folder, tmp_path / "elsewhere/net.onnx"), images)
    assert list(found) == ["features"]
    assert_close(found["features"], tf.saved_model.load(str(folder))(images))
    assert not (folder / "model.onnx").exists()


def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_module(small_predictor().backbone, tmp_path / "module")
    convert = onnx_file._convert

    def convert_wrongly(*arguments: object) -> object:
        model = convert(*arguments)
        largest = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        weights = onnx.numpy_helper.to_array(largest)
        largest.CopyFrom(onnx.numpy_helper.from_array(1.01 * weights, largest.name))
        return model

    monkeypatch.setattr(onnx_file, "_convert", convert_wrongly)
    with pytest.raises(ValueError, match=r"features differ from the module's by \d") as caught:
        export_onnx(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "model.onnx").exists()


class Bessel(keras.layers.Layer):
    def call(self, maps: tf.Tensor) -> tf.Tensor:
        return tf.math.bessel_i0e(maps)


def test_operations_that_onnx_lacks_are_named_in_a_line(tmp_path: Path, caplog) -> None:
    patches = keras.Input((96, 96, 3))
    flow = keras.layers.Conv2D(4, 8, strides=8)(patches)
    flow = Bessel()(flow)
    flow = keras.layers.GlobalAveragePooling2D()(flow)
    folder = export_module(keras.Model(patches, flow, name="bessel"), tmp_path / "module")
    with pytest.raises(ValueError, match=r"operations that ONNX has.*BesselI0e") as caught:
        export_onnx(folder)
    assert "\n" not in str(caught.value)
    assert not caplog.records  # nor a page of the converter's
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tf2onnx"])
def test_a_missing_package_is_a_line_that_names_the_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"keras_ctxattr\[onnx\].*no {package}") as caught:
        export_onnx(folder, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
