import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ctxattr
from keras_ctxattr.backbones import compact
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.export import export_module, read_module
from tests.export.images import (
    assert_close,
    encode,
    normalize,
    photos,
    small_predictor,
    two_classes,
)


@pytest.fixture(scope="module")
def predictor() -> ContextPredictor:
    return small_predictor()


@pytest.fixture(scope="module")
def folder(predictor: ContextPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "module"
    return export_module(
        predictor,
        target,
        metadata={"images": "noise"},
        config={"recipe": {"width": 8}, "seed": 0},
        metrics={"held_out_accuracy": 0.25},
        license="CC-BY-4.0",
    )


@pytest.fixture(scope="module")
def module(folder: Path) -> object:
    return tf.saved_model.load(str(folder))


# --- what it computes -----------------------------------------------------------------------------


def test_patches_give_the_backbones_features(predictor: ContextPredictor, module: object) -> None:
    patches = photos(3)
    assert_close(module(patches), predictor.backbone(normalize(patches)))


def test_patches_are_prepared_as_in_training(predictor: ContextPredictor, module: object) -> None:
    # Training sees uint8 patches; without a colour guard the module prepares them the same.
    pixels = np.round(photos(2) * 255).astype("uint8")
    trained = small_predictor(colour="none").processing(pixels, training=False)
    assert_close(module(pixels.astype("float32") / 255), predictor.backbone(trained))


def test_larger_images_give_the_mean_over_positions(module: object) -> None:
    images = photos(2, 130, 200)
    feature_map = module.feature_map(images)
    assert feature_map.shape == (2, 2, 4, 16)
    assert_close(module(images), tf.reduce_mean(feature_map, (1, 2)))


def test_a_batch_equals_its_images_alone(module: object) -> None:
    images = photos(3, 100, 140)
    together = module(images).numpy()
    for number, image in enumerate(images):
        assert_close(together[number], module(image[None])[0])


def test_features_do_not_change_from_call_to_call(module: object) -> None:
    images = photos(2)
    np.testing.assert_array_equal(module(images), module(images))


def test_brightness_and_contrast_do_not_matter(module: object) -> None:
    images = photos(2)
    assert_close(module(0.3 * images + 0.4), module(images))


def test_an_image_smaller_than_a_patch_is_one_clear_error(module: object) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 96 pixels a side"):
        module(photos(1, 95, 200))


def test_projection_hides_green_against_magenta(
    predictor: ContextPredictor, module: object, tmp_path: Path
) -> None:
    target = export_module(predictor, tmp_path / "projected", colour="project")
    projected = tf.saved_model.load(str(target))
    images = photos(2)
    fringes = np.random.default_rng(1).uniform(0, 0.3, (2, 96, 96, 1)) * [-1, 2, -1]
    tinted = (images + fringes).astype("float32")
    assert_close(projected(tinted), projected(images))
    assert np.abs(module(tinted) - module(images)).max() > 1e-2 * np.abs(module(images)).max()
    assert read_module(target)["processing"]["colour"] == "project"


def test_the_papers_preset_subtracts_the_mean_colour(tmp_path: Path) -> None:
    model = small_predictor(preset="paper")
    target = export_module(model, tmp_path / "module")
    patches = photos(2)
    expected = model.backbone(255 * patches - np.array([122.7, 116.7, 104.0], "float32"))
    assert_close(tf.saved_model.load(str(target))(patches), expected)
    normalization = read_module(target)["processing"]["normalization"]
    assert normalization == {"kind": "mean_subtraction", "mean": [122.7, 116.7, 104.0]}


def test_half_precision_training_gives_a_float32_module(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_predictor()
        target = export_module(model, tmp_path / "module")
    finally:
        keras.config.set_dtype_policy("float32")
    full = compact(width=8, num_features=16)
    full.set_weights(model.backbone.get_weights())
    patches = photos(2)
    assert_close(tf.saved_model.load(str(target))(patches), full(normalize(patches)))


# --- served ---------------------------------------------------------------------------------------


def test_signatures_take_images_and_name_their_results(module: object) -> None:
    images = tf.constant(photos(2, 100, 130))
    served = module.signatures["serving_default"](images=images)["features"]
    assert_close(served, module(images))
    maps = module.signatures["feature_map"](images=images)["feature_map"]
    assert_close(maps, module.feature_map(images))


def test_bytes_of_mixed_formats_and_sizes_give_features(module: object) -> None:
    # 600 x 500 is 300 000 pixels: not scaled, so the two ways must agree exactly.
    pixels = np.round(photos(1, 600, 500)[0] * 255).astype("uint8")
    large = np.repeat(np.repeat(pixels, 2, 0), 2, 1)
    jpeg = encode(np.round(photos(1, 200, 150)[0] * 255).astype("uint8"), "jpeg")
    files = tf.constant([encode(pixels, "png"), encode(large, "png"), jpeg])
    found = module.signatures["serve_bytes"](encoded=files)["features"]
    assert found.shape == (3, 16)
    expected = module(pixels[None].astype("float32") / 255)[0]
    assert_close(found[0], expected)
    assert_close(found[1], expected, 1e-4)  # twice as large, scaled back by areas
    assert_close(module.serve_bytes(files[2:])[0], found[2])


def test_small_photos_are_enlarged_by_interpolation(module: object) -> None:
    pixels = np.round(photos(1, 300, 250)[0] * 255).astype("uint8")
    scaled = tf.image.resize(pixels, (600, 500), method="bilinear")
    found = module.serve_bytes(tf.constant([encode(pixels, "png")]))
    assert_close(found, module(scaled[None] / 255))


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        # 300 000 pixels of these would be 77 a side, less than a patch: an error for all files.
        ((20, 1000), (96, 4800)),
        ((4000, 40), (9600, 96)),  # 100 times: the limit
        ((40, 1280), (97, 3098)),  # 32 times: as large as every other photograph
    ],
)
def test_thin_photos_are_enlarged_to_a_patchs_height(
    module: object, size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    pixels = np.round(photos(1, *size)[0] * 255).astype("uint8")
    enlarged = tf.image.resize(tf.cast(pixels, tf.float32), scaled, method="bilinear")
    ordinary = encode(np.round(photos(1, 120, 150, 1)[0] * 255).astype("uint8"), "png")
    found = module.serve_bytes(tf.constant([ordinary, encode(pixels, "png")]))
    assert_close(found[1], module(enlarged[None] / 255)[0])
    assert_close(found[0], module.serve_bytes(tf.constant([ordinary]))[0])


@pytest.mark.parametrize("size", [(1, 101), (10, 1001), (3030, 30)])
def test_a_line_of_pixels_is_one_clear_error_and_not_a_huge_image(
    module: object, size: tuple[int, int]
) -> None:
    pixels = np.zeros((*size, 3), "uint8")
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ at most 100 times; crop it"):
        module.serve_bytes(tf.constant([encode(pixels, "png")]))


def test_one_unreadable_file_is_an_error_for_the_call(module: object, folder: Path) -> None:
    readable = encode(np.zeros((120, 120, 3), "uint8"), "png")
    for broken in (b"", b"no image", readable[: len(readable) // 2]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            module.serve_bytes(tf.constant([readable, broken]))
    told = read_module(folder)["input"]
    assert told["encoded_max_aspect"] == 100
    assert "error for the whole call" in told["encoded_errors"]


# --- learning on ----------------------------------------------------------------------------------


def test_variables_are_named_by_layer_and_know_whether_they_train(module: object) -> None:
    names = {variable.name.removesuffix(":0") for variable in module.variables}
    assert {"conv1/kernel", "conv4_norm/moving_mean", "fc6/kernel"} <= names
    trainable = {variable.name for variable in module.variables if variable.trainable}
    assert {variable.name for variable in module.trainable_variables} == trainable
    assert len(trainable) == 5
    assert module.regularization_losses == []


def test_a_plain_loop_fine_tunes(folder: Path) -> None:
    module = tf.saved_model.load(str(folder))
    images, labels = two_classes()
    head = tf.Variable(tf.random.stateless_normal([16, 2], [1, 2], stddev=0.02))
    losses, before = [], [variable.numpy() for variable in module.variables]
    for _ in range(6):
        with tf.GradientTape() as tape:
            logits = module(images, training=True) @ head
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        variables = [*module.trainable_variables, head]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.02 * gradient)
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    for old, variable in zip(before, module.variables, strict=True):  # running statistics, too
        assert np.any(old != variable.numpy()), variable.name


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("endpoint", [None, "train"])
def test_keras_fit_fine_tunes(folder: Path, optimizer: str, endpoint: str | None) -> None:
    keras.utils.set_random_seed(0)
    features = keras.layers.TFSMLayer(str(folder), call_training_endpoint=endpoint)
    head = keras.layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02))
    model = keras.Sequential([keras.Input((96, 96, 3)), features, head])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # Without this line Adam fails: Keras would name its slots after "conv1_kernel:0" in a graph.
    model.optimizer.build(model.trainable_variables)
    images, labels = two_classes()
    before = [variable.numpy() for variable in features.trainable_variables]
    assert len(before) == 5
    losses = model.fit(images, labels, epochs=6, verbose=0).history["loss"]
    assert 0 < losses[-1] < losses[0]
    for old, variable in zip(before, features.trainable_variables, strict=True):
        assert np.any(old != variable.numpy()), variable.name


def test_regularisation_is_carried_along(tmp_path: Path) -> None:
    backbone = keras.Sequential(
        [
            keras.Input((96, 96, 3)),
            keras.layers.Conv2D(2, 8, strides=8, kernel_regularizer="l2", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, kernel_regularizer="l1", name="fc"),
        ]
    )
    module = tf.saved_model.load(str(export_module(backbone, tmp_path / "module")))
    found = [float(loss()) for loss in module.regularization_losses]
    np.testing.assert_allclose(found, [float(loss) for loss in backbone.losses], rtol=1e-5)


def test_tensorflow_hub_loads_and_fine_tunes(folder: Path) -> None:
    hub = pytest.importorskip("tensorflow_hub")
    tf_keras = pytest.importorskip("tf_keras")
    images, labels = two_classes()
    assert_close(hub.load(str(folder))(images), tf.saved_model.load(str(folder))(images))
    features = hub.KerasLayer(str(folder), trainable=True)
    head = tf_keras.layers.Dense(2)
    model = tf_keras.Sequential([tf_keras.Input((96, 96, 3)), features, head])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.legacy.Adam(1e-3), loss)
    before = [variable.numpy() for variable in features.trainable_variables]
    losses = model.fit(images, labels, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for old, variable in zip(before, features.trainable_variables, strict=True):
        assert np.any(old != variable.numpy()), variable.name


# --- the folder -----------------------------------------------------------------------------------


def test_module_json_says_what_is_inside(folder: Path) -> None:
    described = json.loads((folder / "module.json").read_text())
    assert described == read_module(folder)
    assert described["backbone"] == "compact"
    assert described["patch_size"] == 96
    assert described["num_features"] == 16
    assert described["input"]["range"] == [0, 1]
    assert described["processing"]["preset"] == "released"
    assert described["trained_on"] == {"images": "noise"}
    assert described["config"] == {"recipe": {"width": 8}, "seed": 0}
    assert described["license"] == "CC-BY-4.0"
    assert described["metrics"] == {"held_out_accuracy": 0.25}
    assert described["versions"]["keras_ctxattr"] == keras_ctxattr.__version__
    assert {"tensorflow", "keras"} <= described["versions"].keys()


def test_a_licence_and_a_configuration_that_nobody_named_are_null(
    predictor: ContextPredictor, tmp_path: Path
) -> None:
    target = export_module(predictor.backbone, tmp_path / "module")
    described = json.loads((target / "module.json").read_text())
    assert described["license"] is None and described["config"] is None


@pytest.mark.parametrize("trained_on", [{"run": {"seed": 3}}, {}])
def test_older_modules_are_read_with_the_configuration_they_have(
    folder: Path, tmp_path: Path, trained_on: dict
) -> None:
    """They had it inside `trained_on`, and no licence."""
    described = read_module(folder)
    older = {key: value for key, value in described.items() if key not in ("license", "config")}
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "module.json").write_text(json.dumps({**older, "trained_on": trained_on}))
    found = read_module(tmp_path)
    assert found["license"] is None
    assert found["config"] == trained_on.get("run")
    assert found["trained_on"] == trained_on


def test_a_module_keeps_no_trace_of_where_it_was_made(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            contents = path.read_bytes()
            for place in (folder.parent, Path(keras_ctxattr.__file__).parent, Path.home()):
                assert str(place).encode() not in contents, path.name


def test_a_module_is_not_overwritten_unasked(predictor: ContextPredictor, tmp_path: Path) -> None:
    target = export_module(predictor.backbone, tmp_path / "module")
    with pytest.raises(ValueError, match="unless overwrite=True"):
        export_module(predictor.backbone, target)
    export_module(predictor.backbone, target, colour="project", overwrite=True)
    assert read_module(target)["processing"]["colour"] == "project"
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_never_overwritten(
    predictor: ContextPredictor, tmp_path: Path, overwrite: bool
) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    for target in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match="which holds something else"):
            export_module(predictor, target, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"


def test_a_failure_leaves_what_was_there(
    predictor: ContextPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = export_module(predictor.backbone, tmp_path / "module")

    def fail(module: object, path: str, **_: object) -> None:
        Path(path).mkdir()
        (Path(path) / "saved_model.pb").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left while writing module"):
        export_module(predictor.backbone, target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["module"]
    assert tf.saved_model.load(str(target))(photos(1)).shape == (1, 16)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"colour": "drop"}, "`colour` must be one of ('none', 'project')"),
        ({"preset": "none"}, "`preset` must be one of"),
        ({"metadata": {"loss": float("nan")}}, "Out of range float values"),
        ({"metadata": {"images": object()}}, "cannot be written as JSON"),
        ({"config": {"rate": float("inf")}}, "Out of range float values"),
        ({"license": " "}, "`license` must be an SPDX identifier"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    predictor: ContextPredictor, tmp_path: Path, settings: dict, reason: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(reason)):
        export_module(predictor, tmp_path / "module", **settings)
    assert not list(tmp_path.iterdir())


def test_diverged_weights_are_refused(tmp_path: Path) -> None:
    backbone = compact(width=8, num_features=16)
    backbone.get_layer("fc6").kernel.assign(backbone.get_layer("fc6").kernel * np.nan)
    with pytest.raises(ValueError, match="NaN or infinity in fc6/kernel"):
        export_module(backbone, tmp_path / "module")


@pytest.mark.parametrize("contents", [None, "{}", "not json", "[]", '{"format": 99}'])
def test_reading_what_is_no_module_is_one_clear_error(tmp_path: Path, contents: str | None) -> None:
    if contents is not None:
        (tmp_path / "saved_model.pb").touch()
        (tmp_path / "module.json").write_text(contents)
    with pytest.raises(ValueError, match="Received: ") as caught:
        read_module(tmp_path)
    assert "\n" not in str(caught.value)
