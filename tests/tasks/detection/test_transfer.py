"""Networks that detection starts from: the same maps whatever holds the weights."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import compact, small
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.export import export_module
from keras_ctxattr.layers import CanvasProcessing
from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.detection.transfer import (
    FeatureNetwork,
    for_inference,
    open_feature_network,
    under_policy,
)
from tests.backbones.trained import give_random_statistics
from tests.export.images import assert_close, photos

TINY = ContextRecipe(
    backbone="compact",
    backbone_options={"width": 8, "num_features": 16},
    hidden_units=8,
    preset="paper",
    colour="project",
    grids=GridConfig(images_per_batch=2, patches_per_batch=24, pairs_per_batch=100),
    dtype_policy="float32",
)


def tiny_predictor():
    model = build_predictor(TINY, seed=3)
    give_random_statistics(model.backbone)
    model.optimizer.build(model.trainable_variables)  # as training does
    return model


def write_run(folder: Path, *, finished: bool) -> Path:
    """Writes a run as training leaves it, finished or only with a checkpoint."""
    model = tiny_predictor()
    config = {"recipe": dataclasses.asdict(TINY), "seed": 3, "images": ["photographs"]}
    with Run.open(folder, config, kind="context") as run:
        if finished:
            model.save(folder / "model.keras")
            run.finish({"steps": 4, "accuracy": 0.2})
        else:
            run.save_checkpoint(model, 4, {})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The same network in all that may hold it."""
    root = tmp_path_factory.mktemp("networks")
    places = {
        "module": export_module(tiny_predictor(), root / "module", colour="project"),
        "run": write_run(root / "run", finished=True),
        "begun run": write_run(root / "begun", finished=False),
        "file": root / "predictor.keras",
        "learnt": root / "learnt",
        "older module": root / "older",
    }
    tiny_predictor().save(places["file"])
    shutil.copytree(places["module"], places["learnt"] / "attributes" / "module")
    shutil.copytree(places["module"], places["older module"])
    (places["older module"] / "network.json").unlink()
    return places


def describe(network: FeatureNetwork, images: np.ndarray) -> np.ndarray:
    """Gives the map of images in [0, 1], through the processing that the network asks for."""
    sizes = np.array([images.shape[1:3]] * len(images), "int32")
    processed = CanvasProcessing(**network.processing)(255 * images, sizes)
    return np.asarray(network.model(processed, training=False))


def refusal(source: object, **options: object) -> str:
    with pytest.raises(ValueError) as caught:
        open_feature_network(source, **options)
    message = str(caught.value)
    assert "\n" not in message and str(source).partition(":")[2] in message
    return message


# --- networks of ours -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["module", "learnt", "run", "begun run", "file"])
def test_map_is_conv4_of_the_trained_network_whatever_holds_it(made, kind: str) -> None:
    network = open_feature_network(made[kind])
    assert (network.stride, network.offset) == (16, 0)
    assert network.can_be_rescaled and network.whole.output_shape[-1] == 16
    assert network.processing["preset"] == "paper" and network.processing["colour"] == "project"
    assert str(made[kind]) in network.name
    model, images = tiny_predictor(), photos(2)
    patches = model.processing((255 * images).astype("float32"), training=False)
    backbone = model.backbone
    expected = keras.Model(backbone.input, backbone.get_layer("conv4_relu").output)(patches)
    assert_close(describe(network, images), expected)


def test_layer_is_chosen_by_name(made) -> None:
    network = open_feature_network(made["run"], layer="conv3_relu")
    assert (network.stride, network.offset) == (8, 0)
    fc6 = open_feature_network(made["file"], layer="fc6_relu")
    # fc6 looks at 3 x 3 cells of 32 pixels: the first is around pixel 48.
    assert (fc6.stride, fc6.offset) == (32, 32)
    assert "conv4_relu" in refusal(made["module"], layer="conv9")


def test_older_module_gives_its_feature_map_and_no_layers(made) -> None:
    network, images = open_feature_network(made["older module"]), photos(1, 128, 160)
    assert network.processing == {"preset": "unit"} and not network.can_be_rescaled
    assert (network.stride, network.offset) == (32, 32)
    module = tf.saved_model.load(str(made["module"]))
    assert_close(describe(network, images), module.feature_map(images))
    assert "export it again" in refusal(made["older module"], layer="conv4_relu")


def test_untrained_backbone_depends_on_its_seed_alone() -> None:
    images = photos(1, 64, 64)
    one, again = (open_feature_network("untrained:small", seed=1) for _ in range(2))
    assert one.processing == {"preset": "released"} and one.stride == 4
    np.testing.assert_array_equal(describe(one, images), describe(again, images))


def test_model_of_attributes_gives_its_backbone(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    hasher = AttributeHasher(small(width=4, num_features=8), num_attributes=8, colour="drop")
    hasher.save(tmp_path / "hasher.keras")
    network = open_feature_network(tmp_path / "hasher.keras")
    assert network.processing["preset"] == "released" and network.processing["colour"] == "none"
    assert network.model.output_shape[-1] == 16
    AttributeHasher(num_features=8, num_attributes=8).save(tmp_path / "vectors.keras")
    assert "must have a backbone" in refusal(tmp_path / "vectors.keras")


def test_backbone_of_ours_is_known_by_its_layers(tmp_path) -> None:
    # Keras's own VGG-16 has the same name, and pixels of another range.
    compact(width=4, num_features=8).save(tmp_path / "ours.keras")
    inputs = keras.Input((32, 32, 3))
    theirs = layers.Conv2D(4, 3, padding="same", name="block1_conv1")(inputs)
    pooled = layers.MaxPooling2D(2, name="block1_pool")(theirs)
    keras.Model(inputs, pooled, name="vgg16").save(tmp_path / "theirs.keras")
    assert open_feature_network(tmp_path / "ours.keras").processing == {"preset": "released"}
    assert open_feature_network(tmp_path / "theirs.keras").processing == {"preset": "none"}


def test_keras_model_of_others_gets_pixels_of_0_to_255(tmp_path) -> None:
    inputs = keras.Input((None, None, 3))
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    maps = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")(scaled)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(maps))
    model.save(tmp_path / "other.keras")
    network, images = open_feature_network(tmp_path / "other.keras"), photos(1, 96, 128)
    expected = keras.Model(inputs, maps)(255 * images)
    assert network.stride == 2
    assert_close(describe(network, images), expected)


# --- SavedModels of others ------------------------------------------------------------------------


class Plain(tf.Module):
    """One convolution of stride 8; what it gives beside its map is told by `further`."""

    def __init__(self, **further: object) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal([8, 8, 3, 4], [0, 1]), name="kernel")
        self.further = further

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="pixels")])
    def compute(self, pixels):
        maps = tf.nn.relu(tf.nn.conv2d(pixels, self.kernel, 8, "SAME"))
        if self.further.get("vector"):
            return {"vector": tf.reduce_mean(maps, [1, 2])}
        both = {"a_vector": tf.reduce_mean(maps, [1, 2]), "map": maps}
        return both if self.further.get("both") else {"map": maps}


def save_plain(folder: Path, signature: str = "serving_default", **further: object) -> Path:
    plain = Plain(**further)
    tf.saved_model.save(plain, str(folder), signatures={signature: plain.compute})
    return folder


def export_keras(folder: Path, side: int | None = None) -> Path:
    """Writes what takes images of any size, or of one only."""
    inputs = keras.Input((side, side, 3))
    maps = layers.Conv2D(4, 8, strides=8, padding="same", activation="relu")(inputs)
    if side:
        maps = layers.Reshape((side // 8, side // 8, 4))(layers.Flatten()(maps))
    keras.Model(inputs, maps).export(str(folder), verbose=False)
    return folder


MAKERS = {
    "plain": save_plain,
    "of another name": lambda folder: save_plain(folder, "describe"),
    "with a vector beside the map": lambda folder: save_plain(folder, both=True),
    "of keras": export_keras,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_saved_model_is_trained_as_it_is(kind: str, tmp_path) -> None:
    keras.utils.set_random_seed(0)
    folder, images = MAKERS[kind](tmp_path / "saved"), photos(2, 64, 96)
    network = open_feature_network(folder)
    assert (network.stride, network.offset) == (8, 0)
    assert network.processing == {"preset": "unit"} and network.whole is None
    before = describe(network, images)
    assert before.shape == (2, 8, 12, 4)
    loaded = tf.saved_model.load(str(folder))
    function = list(loaded.signatures.values())[-1]
    (name,) = function.structured_input_signature[1]
    results = function(**{name: tf.constant(images)}).values()
    assert_close(before, next(one for one in results if one.ndim == 4))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network.model(images) ** 2)
    gradients = tape.gradient(loss, network.model.trainable_variables)
    assert gradients and all(np.abs(one).max() > 0 for one in gradients)
    network.model.compile(keras.optimizers.SGD(0.1), "mse")
    network.model.fit(images, np.zeros_like(before), epochs=2, verbose=0)
    assert np.square(describe(network, images)).mean() < np.square(before).mean()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: save_plain(folder, vector=True), "one map is needed, it gives .*4]"),
        (lambda folder: export_keras(folder, 96), "serving_default: "),
        (lambda folder: tf.saved_model.save(tf.Module(), str(folder)), "no signature"),
    ],
)
def test_saved_model_without_a_map_of_any_image_is_told(make, told: str, tmp_path) -> None:
    make(tmp_path / "saved")
    with pytest.raises(ValueError, match=rf"must have a `feature_map`.*{told}") as caught:
        open_feature_network(tmp_path / "saved")
    assert "\n" not in str(caught.value)


def test_layer_of_a_saved_model_cannot_be_chosen(tmp_path) -> None:
    assert "plain SavedModel has none" in refusal(save_plain(tmp_path / "saved"), layer="conv4")


# --- what is no network ---------------------------------------------------------------------------


def test_what_is_no_network_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "words.keras").write_text("words")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "saved_model.pb").write_text("words")
    assert "must be a module" in refusal(tmp_path / "nowhere")
    assert "must be a module" in refusal(tmp_path)
    assert "must be a module" in refusal(tmp_path / "nowhere.keras")
    assert "that Keras can load" in refusal(tmp_path / "words.keras")
    assert "that TensorFlow can load" in refusal(tmp_path / "damaged")
    assert "must be one of alexnet" in refusal("untrained:lenet")


def test_runs_of_other_kinds_and_without_a_checkpoint_are_told(tmp_path) -> None:
    with Run.open(tmp_path / "clusters", {"seed": 0}, kind="clusters") as run:
        run.finish({})
    assert "training.pretrain_context" in refusal(tmp_path / "clusters")
    with Run.open(tmp_path / "begun", {"seed": 0}, kind="context") as run:
        run.commit()
    assert "no whole checkpoint yet" in refusal(tmp_path / "begun")


def test_map_must_grow_with_the_image(tmp_path) -> None:
    inputs = keras.Input((None, None, 3))
    maps = layers.Resizing(7, 7)(layers.Conv2D(4, 3, padding="same", name="conv")(inputs))
    keras.Model(inputs, maps).save(tmp_path / "fixed.keras")
    message = refusal(tmp_path / "fixed.keras")
    assert "must grow with the image" in message and "7 cells a side for 256" in message
    assert open_feature_network(tmp_path / "fixed.keras", layer="conv").stride == 1


def test_weights_are_stored_as_they_are_computed_with_and_results_stay_to_the_bit() -> None:
    inner = under_policy(open_feature_network("untrained:compact").model, "mixed_bfloat16")
    inputs = keras.Input((None, None, 3))
    maps = layers.GlobalMaxPooling2D(dtype="mixed_bfloat16")(inner(inputs))
    network = keras.Model(inputs, layers.Dense(3, dtype="float32", name="last")(maps))
    fast = for_inference(network)
    assert {weight.dtype for weight in fast.get_layer(inner.name).weights} == {"bfloat16"}
    assert fast.get_layer("last") is network.get_layer("last")
    images = np.random.default_rng(0).normal(0, 50, (2, 64, 80, 3)).astype("float32")
    before = fast(images).numpy()
    np.testing.assert_array_equal(before, network(images))
    for weight in inner.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(fast(images), before)
    in_float32 = open_feature_network("untrained:compact").model
    assert for_inference(in_float32) is in_float32
