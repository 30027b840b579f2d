"""What every module promises, with attributes or without, wherever it is loaded."""

import io
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.export import export_module
from tests.contracts import dtype_policy
from tests.data.encoding import encode, make_exif, make_pixels
from tests.export.images import assert_close, photos, small_hasher, small_predictor, two_classes

KINDS = ("features", "patch", "image")
SIZES = ((2, 96, 96), (1, 130, 203))


def make_module(kind: str, target: Path) -> Path:
    """Writes a module without attributes, or with attributes of patches or of whole images."""
    if kind == "features":
        return export_module(small_predictor(), target)
    return export_module(small_hasher(), target, unit=kind)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, object]]:
    """Gives the folder and the loaded module of each kind."""
    root = tmp_path_factory.mktemp("modules")
    folders = {kind: make_module(kind, root / kind) for kind in KINDS}
    return {kind: (path, tf.saved_model.load(str(path))) for kind, path in folders.items()}


def results(module: object, images: np.ndarray) -> dict[str, np.ndarray]:
    """Gives all that a module knows of images, by its functions."""
    names = [name for name in ("attributes", "codes") if hasattr(module, name)]
    found = {name: getattr(module, name)(images).numpy() for name in names}
    return {"features": module(images).numpy(), **found}


# --- served ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_signatures_give_what_the_functions_give(made, kind: str, size: tuple) -> None:
    module, images = made[kind][1], photos(*size)
    for name, expected in results(module, images).items():
        signature = "serving_default" if name == "features" else name
        served = module.signatures[signature](images=tf.constant(images))
        assert list(served) == [name] and len(expected) == size[0]
        np.testing.assert_array_equal(served[name], expected, err_msg=name)


@pytest.mark.parametrize("kind", ["patch", "image"])
def test_codes_are_the_packed_signs_of_the_attributes(made, kind: str) -> None:
    module = made[kind][1]
    found = results(module, photos(6, 100, 120))
    bits = found["attributes"] > 0
    assert 0 < bits.mean() < 1
    assert len(np.unique(np.packbits(bits, axis=1))) > 2  # the order of the bits can be seen
    assert found["codes"].dtype == np.uint8
    np.testing.assert_array_equal(found["codes"], np.packbits(bits, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_file_is_served_as_its_upright_pixels(made, kind: str, orientation: int) -> None:
    module, stored = made[kind][1], make_pixels(130, 190)
    exif = make_exif(orientation)
    image = Image.open(io.BytesIO(encode(stored, exif=exif)))
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]
    upright = encode(np.asarray(image.transpose(transposed)))
    files = tf.constant([encode(stored, exif=exif), upright, encode(stored)])
    for name, (turned, expected, as_stored) in module.signatures["serve_bytes"](
        encoded=files
    ).items():
        np.testing.assert_array_equal(turned, expected, err_msg=name)
        # (Of so few bits all may stay; where all attributes are equal, so are the bits.)
        assert name == "codes" or np.abs(turned - as_stored).max() > 1e-3, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_photo_is_served_as_its_upright_pixels_saved_losslessly(made, kind: str) -> None:
    module, stored = made[kind][1], make_pixels(130, 190)
    photo = encode(stored, "JPEG", exif=make_exif(6), quality=90)
    plain = encode(stored, "JPEG", quality=90)
    # Not by the function under test: the same JPEG without EXIF, then turned clockwise.
    upright = np.rot90(decode_image(plain).numpy(), -1)
    served = module.signatures["serve_bytes"](encoded=tf.constant([photo, encode(upright), plain]))
    for name, (turned, expected, as_stored) in served.items():
        np.testing.assert_array_equal(turned, expected, err_msg=name)
        assert name == "codes" or np.abs(turned - as_stored).max() > 1e-3, name


# --- as a layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_keras_layer_gives_every_result(made, kind: str, size: tuple) -> None:
    folder, module = made[kind]
    images = photos(*size)
    for name, expected in results(module, images).items():
        endpoint = "serve" if name == "features" else name
        layer = keras.layers.TFSMLayer(str(folder), call_endpoint=endpoint)
        model = keras.Sequential([keras.Input((None, None, 3)), layer])
        found = model.predict(images, verbose=0)
        assert found.dtype == expected.dtype
        if name == "codes":
            np.testing.assert_array_equal(found, expected)
        else:
            assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_moves_the_weights_and_what_is_made_of_them(made, kind: str) -> None:
    module = tf.saved_model.load(str(made[kind][0]))
    images, labels = two_classes()
    before = results(module, images)
    weights = [variable.numpy() for variable in module.trainable_variables]
    assert len(weights) == 5
    head = tf.constant(np.random.default_rng(0).normal(size=(16, 2)), tf.float32)
    with tf.GradientTape() as tape:
        logits = module(images, training=True) @ head
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    gradients = tape.gradient(loss, module.trainable_variables)
    for variable, gradient in zip(module.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    for old, variable in zip(weights, module.trainable_variables, strict=True):
        assert np.any(old != variable.numpy()), variable.name
    after = results(module, images)
    for name in before.keys() - {"codes"}:
        assert np.abs(after[name] - before[name]).max() > 1e-3, name
    if kind != "features":
        np.testing.assert_array_equal(after["codes"], np.packbits(after["attributes"] > 0, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_tensorflow_hub_gives_every_result(made, kind: str, size: tuple) -> None:
    hub = pytest.importorskip("tensorflow_hub")
    folder, module = made[kind]
    images = photos(*size)
    expected = results(module, images)
    for name, found in results(hub.load(str(folder)), images).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
    assert_close(hub.KerasLayer(str(folder))(images), expected["features"])
    for name in expected.keys() - {"features"}:
        layer = hub.KerasLayer(str(folder), signature=name, output_key=name)
        np.testing.assert_array_equal(layer(images), expected[name], err_msg=name)


# --- inside ---------------------------------------------------------------------------------------


def dtypes_of(graph: object, functions: object) -> set[int]:
    """Gives the types of all that nodes of a graph and of its functions take and give."""
    nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
    values = [value for node in nodes for value in node.attr.values()]
    return {kind for value in values for kind in (value.type, *value.list.type)}


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_training_leaves_nothing_in_half_precision(kind: str, tmp_path) -> None:
    with dtype_policy("mixed_bfloat16"):
        model = small_predictor() if kind == "features" else small_hasher()
        unit = {} if kind == "features" else {"unit": kind}
        folder = export_module(model, tmp_path / "module", **unit)
    # So would what was trained look:
    call = tf.function(model.backbone).get_concrete_function(tf.TensorSpec([1, 96, 96, 3]))
    trained = call.graph.as_graph_def()
    half = tf.bfloat16.as_datatype_enum
    assert half in dtypes_of(trained, trained.library.function)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    found = dtypes_of(graph, graph.library.function)
    assert tf.float32.as_datatype_enum in found
    assert not found & {half, tf.float16.as_datatype_enum}
    module = tf.saved_model.load(str(folder))
    assert {variable.dtype for variable in module.variables} == {tf.float32}
