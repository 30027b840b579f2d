"""R-CNN: its network, its training, and what it detects."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from keras_ctxattr.backbones import small
from keras_ctxattr.layers import CropProcessing, RegionWarping
from keras_ctxattr.tasks.detection.candidates import find_candidates
from keras_ctxattr.tasks.detection.finetuning import finetune_detection, load_detector
from keras_ctxattr.tasks.detection.metrics import score_detections
from keras_ctxattr.tasks.detection.rcnn import (
    RcnnRecipe,
    RegionSvms,
    build_rcnn,
    detect_rcnn,
    fit_region_svms,
    rcnn_batches,
)
from keras_ctxattr.tasks.detection.rcnn.describing import describe_regions
from keras_ctxattr.tasks.detection.rcnn.method import RcnnMethod
from keras_ctxattr.tasks.detection.rcnn.network import transferred_part
from keras_ctxattr.tasks.detection.starting import Start
from keras_ctxattr.tasks.detection.suppression import suppress
from keras_ctxattr.tasks.detection.transfer import open_feature_network
from tests.tasks.detection.photographs import draw_photographs, draw_proposals

SMALL = {
    "crop_side": 56,
    "context": 4,
    "max_side": 96,
    "reduced_channels": 16,
    "hidden_units": 32,
    "images_per_batch": 2,
    "crops_per_batch": 16,
    "crops_per_chunk": 40,
    "dropout": 0.1,
    "optimizer_steps": 80,
    "learning_rate": 0.0002,
    "fresh_rate": 30.0,
    "warmup": 0.0,
    "clip_norm": None,
    "dtype_policy": "float32",
    "min_score": 0.0,
}
RECIPE = RcnnRecipe(**SMALL)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return draw_photographs(tmp_path_factory.mktemp("squares"), side=64)


@pytest.fixture(scope="module")
def proposals(photographs):
    return draw_proposals(photographs, count=20)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A tiny untrained network whose batch normalisation knows its activations."""
    keras.utils.set_random_seed(0)
    backbone = small(width=8, num_features=32)
    coarse = np.random.default_rng(2).normal(0, 50, (64, 4, 4, 3))
    patches = coarse.repeat(8, axis=1).repeat(8, axis=2).astype("float32")
    for _ in range(80):
        backbone(patches, training=True)
    path = tmp_path_factory.mktemp("network") / "backbone.keras"
    backbone.save(path)
    return open_feature_network(path)


@pytest.fixture(scope="module")
def batches(photographs, proposals):
    return rcnn_batches(photographs.manifest, find_candidates(photographs, proposals), RECIPE)


@pytest.fixture(scope="module")
def batch(batches):
    return next(iter(batches))


@pytest.fixture(scope="module")
def trained(features, batches):
    model = build_rcnn(features, 2, RECIPE)
    history = model.fit(batches, steps_per_epoch=20, epochs=4, verbose=0, shuffle=False)
    return model, history.history


def change(**settings):
    return RcnnRecipe(**{**SMALL, **settings})


def score(photographs, detections):
    found = [(one.boxes, one.scores, one.classes) for one in detections]
    return score_detections(found, photographs.objects, 2)["map_voc07"]


def test_the_network_is_that_of_the_figure(features):
    network = build_rcnn(features, 20, RECIPE).network
    layers = [layer for layer in network.layers if layer.name != "warping"]  # it gives two tensors
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in layers}
    assert shapes["processing"] == (56, 56, 3)
    assert network.get_layer("conv6b").input.shape[1:] == (4, 4, 32)  # pool5 is 7 x 7
    assert shapes["conv6b"] == (4, 4, 16)
    assert shapes["pool6"] == (2, 2, 16)
    assert shapes["fc7"] == shapes["features"] == (32,)
    assert shapes["fc8"] == (21,)
    part = network.get_layer("small")
    kinds = [type(layer) for layer in part.layers]
    assert keras.layers.BatchNormalization not in kinds


def test_transferred_layers_are_the_same_function(features, batch):
    network = build_rcnn(features, 2, RECIPE).network
    crops = RegionWarping(56, 4)(*(batch[n] for n in ("canvases", "sizes", "regions", "places")))
    pixels = CropProcessing("released")(*crops)
    expected = np.asarray(features.whole(pixels, training=False))
    assert expected.max() > 0.1
    found = network.get_layer("small")(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("crop_side", [24, 32])
def test_too_small_crops_are_named(features, crop_side):
    with pytest.raises(ValueError, match=f"crop_side={crop_side}"):
        build_rcnn(features, 2, change(crop_side=crop_side))


def test_a_network_without_layers_is_refused(features):
    with pytest.raises(ValueError, match="fc6 of a network whose layers can be reached"):
        build_rcnn(dataclasses.replace(features, whole=None), 3, RECIPE)


def test_regions_do_not_depend_on_what_they_are_batched_with(trained, batch):
    model, _ = trained
    together = model(batch, training=False)["features"]
    rows = [3, 11, 7]
    some = {**batch, **{name: tf.gather(batch[name], rows) for name in ("regions", "places")}}
    alone = model(some, training=False)["features"]
    np.testing.assert_allclose(alone, tf.gather(together, rows), rtol=1e-3, atol=1e-4)


def test_loss_falls_and_is_not_0(trained):
    _, history = trained
    assert 0 < history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["accuracy"][-1] > history["accuracy"][0]
    assert history["object_accuracy"][-1] > 0.5
    assert history["background_accuracy"][-1] > 0.5


def test_a_step_is_that_of_plain_gradients(features, batch):
    model = build_rcnn(features, 2, change(dropout=0.0, momentum=0.0, fresh_rate=7.0))
    labels = batch["labels"]
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)["logits"]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)) + sum(
            0.00025 * tf.reduce_sum(one**2) for one in model.trainable_variables if one.ndim > 1
        )
    gradients = tape.gradient(loss, [one.value for one in model.trainable_variables])
    before = [np.array(one) for one in model.trainable_variables]
    logs = model.train_step(batch)
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for one, old, gradient in zip(model.trainable_variables, before, gradients, strict=True):
        is_fresh = one.path.split("/")[0] in {"conv6b", "fc7", "fc8"}
        rate = 0.0002 * (7 if is_fresh else 1) * (2 if one.ndim == 1 else 1)
        np.testing.assert_allclose(one, old - rate * np.asarray(gradient), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains(features, batch, policy):
    model = build_rcnn(features, 2, change(dtype_policy=policy))
    weights = [np.array(one) for one in model.trainable_variables]
    assert 0 < float(model.train_step(batch)["loss"]) < 10
    for one, old in zip(model.trainable_variables, weights, strict=True):
        assert np.isfinite(one).all()
        assert (np.array(one) != old).any()
    outputs = model(batch, training=False)
    assert all(one.dtype == tf.float32 for one in outputs.values())
    assert model.network.get_layer("conv6b").compute_dtype == policy.removeprefix("mixed_")


def test_saved_and_loaded_it_says_the_same(trained, batch, tmp_path):
    model, _ = trained
    model.save(tmp_path / "rcnn.keras")
    loaded = keras.models.load_model(tmp_path / "rcnn.keras")
    for name, values in model(batch, training=False).items():
        np.testing.assert_array_equal(loaded(batch, training=False)[name], values)
    assert loaded.fresh_rate == model.fresh_rate


def test_detections_are_scored_proposals_without_duplicates(trained, photographs, proposals):
    model, _ = trained
    recipe = change(min_score=0.1, max_overlap=0.4, max_detections=7)
    chosen = photographs.select([4, 1])
    boxes = [proposals[4], proposals[1][:0]]
    found = detect_rcnn(model, chosen.manifest, boxes, recipe)
    assert len(found[1]) == 0
    (outputs, _) = describe_regions(model, chosen.manifest, boxes, recipe)
    chances = softmax(outputs["logits"], axis=1)[:, 1:]
    expected = suppress(boxes[0], chances, min_score=0.1, max_overlap=0.4, max_per_image=7)
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(expected, name))


def test_shapes_are_found(trained, features, photographs, proposals):
    """By softmax and by SVMs, and far better than before training."""
    model, _ = trained
    fresh = build_rcnn(features, 2, RECIPE)
    chance = score(photographs, detect_rcnn(fresh, photographs.manifest, proposals, RECIPE))
    by_softmax = score(photographs, detect_rcnn(model, photographs.manifest, proposals, RECIPE))
    calls = []
    svms = fit_region_svms(
        model, photographs, proposals, RECIPE, progress=lambda *numbers: calls.append(numbers)
    )
    by_svm = score(photographs, detect_rcnn(model, photographs.manifest, proposals, RECIPE, svms))
    assert calls[-1] == (len(photographs), len(photographs))
    assert chance < 0.35
    assert by_softmax > 0.7
    assert by_svm > 0.7


def test_svms_are_stored_without_pickle(tmp_path):
    svms = RegionSvms(weights=np.arange(8, dtype="float32").reshape(2, 4))
    svms.save(tmp_path / "svms.npz")
    loaded = RegionSvms.load(tmp_path / "svms.npz")
    np.testing.assert_array_equal(loaded.weights, svms.weights)
    np.testing.assert_array_equal(loaded.decision_function(np.ones((1, 3))), [[6, 22]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crops_per_batch": 0}, "`crops_per_batch` must be at least 1"),
        ({"decay_steps": 0}, "`decay_steps` must be at least 1"),
        ({"foreground": 1.0}, "an object and a background"),
        ({"foreground": 0.01}, "an object and a background"),
        ({"context": 28}, "context=28, crop_side=56"),
        ({"flip": 1.5}, "`flip` must be 0 to 1"),
        ({"dropout": 1.0}, "`dropout` must be 0 to below 1"),
        ({"max_proposals": 0}, "`max_proposals` must be at least 1"),
        ({"clip_norm": 0.0}, "`clip_norm` must be over 0"),
        ({"svm_c": 0.0}, "`svm_c` must be over 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be over 0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        change(**settings)


def test_the_rate_falls():
    assert [RECIPE.rate_at(share) for share in (0, 1)] == [0.0002, 0]
    warm = change(warmup=0.5)
    assert [warm.rate_at(share) for share in (0, 0.25, 1)] == pytest.approx([2e-6, 1e-4, 0])
    steps = change(decay_steps=20)
    assert [steps.rate_at(share) for share in (0, 0.2, 0.3, 1)] == pytest.approx(
        [2e-4, 2e-4, 2e-5, 2e-8]
    )


@pytest.mark.parametrize("transfer", [True, False])
def test_weights_are_transferred_or_drawn(features, transfer):
    method = RcnnMethod(features, RECIPE, Start(transfer=transfer, rescale=False), seed=1)
    part = method.build(2).network.get_layer("small")
    given = transferred_part(features)
    for name in ("conv1", "fc6"):
        same = np.allclose(part.get_layer(name).kernel, given.get_layer(name).kernel)
        assert same == transfer


def test_it_is_learnt_in_a_run_folder(features, photographs, proposals, tmp_path):
    chosen = photographs.select([0, 1, 2])
    recipe = change(max_proposals=9, optimizer_steps=2, warmup=0.5)
    summary = finetune_detection(
        chosen,
        None,
        tmp_path / "run",
        features,
        recipe,
        method="rcnn",
        start=Start(rescale=False),
        propose=lambda given: proposals[: len(given)],
    )
    assert summary["steps"] == 2
    assert 0 <= summary["map_voc07"] <= 1
    detector, names = load_detector(tmp_path / "run")
    assert names == ("red", "blue")
    assert detector.recipe == recipe
    assert detector.svms.weights.shape == (2, 33)
    found = detector.detect(chosen, proposals[:3])
    scores = [(one.boxes, one.scores, one.classes) for one in found]
    again = score_detections(scores, chosen.objects, 2)["map_voc07"]
    assert again == pytest.approx(summary["map_voc07"])
    assert all(0 < len(one) <= 18 for one in found)


def test_rescaled_all_layers_learn_alike(features, photographs, proposals):
    method = RcnnMethod(features, change(dtype_policy="mixed_bfloat16"), Start(), seed=1)
    model = method.build(2)
    told = method.initialize(model, method.batches(photographs, proposals))
    assert set(told["fresh"]) == {"conv6b", "fc7", "fc8"}
    ratios = list(told["ratios"].values())
    assert max(ratios) < 3 * min(ratios)
    assert len(ratios) == 7  # conv1 to conv3 and fc6 are transferred


def test_regions_must_be_of_every_photograph(trained, photographs, proposals):
    with pytest.raises(ValueError, match="5 for 6 photographs"):
        detect_rcnn(trained[0], photographs.manifest, proposals[:5], RECIPE)
