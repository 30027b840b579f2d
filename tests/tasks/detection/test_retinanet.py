"""RetinaNet of keras-hub on networks of ours: batches, targets, training, detections, files."""

import dataclasses
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import compact, small
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export.onnx_file import MissingPackageError
from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.detection.metrics import box_overlaps, score_detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.retinanet import (
    RetinaNetRecipe,
    build_retinanet,
    detect_retinanet,
    load_retinanet,
    retinanet_batches,
)
from keras_ctxattr.tasks.detection.retinanet.batches import detection_batches
from keras_ctxattr.tasks.detection.retinanet.detecting import place_boxes
from keras_ctxattr.tasks.detection.retinanet.method import RetinaNetDetector
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, open_feature_network

RECIPE = RetinaNetRecipe(
    image_size=64,
    max_level=5,
    anchor_size=2,
    head_layers=2,
    images_per_batch=2,
    optimizer_steps=30,
    learning_rate=3e-3,
    dtype_policy="float32",
)
UNIT = {"preset": "unit"}
SIZES = ((64, 48), (40, 64), (32, 32))  # height, width


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Dark photographs with a bright square of class 0 and one of class 1, red and blue."""
    folder = tmp_path_factory.mktemp("photographs")
    boxes = []
    for number, (height, width) in enumerate(SIZES):
        image = np.random.default_rng(number).integers(0, 60, (height, width, 3), np.uint8)
        places = np.array([[2, 3, 18, 19], [width - 17, height - 20, width - 1, height - 4]])
        for (left, top, right, bottom), channel in zip(places, (2, 0), strict=True):
            image[top:bottom, left:right, channel] = 255  # BGR
        cv2.imwrite(str(folder / f"{number}.png"), image)
        boxes.append(places.astype(np.float32))
    return BoxedPhotographs(
        manifest=scan_images(folder),
        boxes=tuple(boxes),
        classes=tuple(np.array([0, 1], np.int32) for _ in SIZES),
        difficult=tuple(np.zeros(2, bool) for _ in SIZES),
        class_names=("red", "blue"),
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "compact.keras"
    keras.utils.set_random_seed(0)
    compact(width=8, num_features=16).save(path)
    return open_feature_network(path)


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip("keras_hub", reason="the extra `detection` is not installed")


@pytest.fixture(scope="module")
def fresh(keras_hub, network):
    """A detector that no test changes."""
    return build_retinanet(network, 2, RECIPE)


@pytest.fixture
def scratch(keras_hub, network):
    """One without the network's weights."""
    return build_retinanet(network, 2, RECIPE, transfer=False, seed=1)


@pytest.fixture(scope="module")
def trained(keras_hub, network, photographs):
    """A detector, its losses, and the weights that it started from."""
    model = build_retinanet(network, 2, RECIPE)
    before = model.get_weights()
    batches = retinanet_batches(photographs, network.processing, RECIPE)
    history = model.fit(batches, steps_per_epoch=10, epochs=3, verbose=0, shuffle=False).history
    return model, history["loss"], before


def first_batch(photographs, recipe=RECIPE, **options):
    batches = retinanet_batches(photographs, UNIT, recipe, **options)
    return next(iter(batches.as_numpy_iterator()))


@pytest.mark.parametrize("image_size", [64, 128])
@pytest.mark.parametrize("flip", [0, 1])
def test_a_box_holds_its_object_on_the_canvas(photographs, image_size, flip):
    recipe = dataclasses.replace(RECIPE, image_size=image_size, flip=flip, images_per_batch=3)
    images, labels = first_batch(photographs, recipe)
    for image, boxes, classes in zip(images, labels["boxes"], labels["labels"], strict=True):
        assert classes.tolist() == [0, 1]
        for box, channel in zip(boxes, (0, 2), strict=True):
            left, top, right, bottom = np.round(box).astype(int)
            is_bright = image[..., channel] > 0.6
            rows, columns = np.nonzero(is_bright)
            # Interpolation blurs an edge by a pixel.
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(found, [left, top, right, bottom], atol=image_size / 64)
            assert is_bright[top + 1 : bottom - 1, left + 1 : right - 1].all()
    # Mirrored, the red square is on the other side of the blue one.
    middles = labels["boxes"][..., [0, 2]].mean(axis=-1)
    assert ((middles[:, 0] < middles[:, 1]) != bool(flip)).all()


def test_difficult_objects_are_left_out_and_padding_is_minus_one(photographs):
    difficult = (np.array([True, False]), np.array([False, False]), np.array([True, True]))
    marked = dataclasses.replace(photographs, difficult=difficult)
    recipe = dataclasses.replace(RECIPE, images_per_batch=3)
    _, labels = first_batch(marked, recipe)
    assert sorted(map(tuple, labels["labels"].tolist())) == [(-1, -1), (0, 1), (1, -1)]
    assert (labels["boxes"][labels["labels"] < 0] == -1).all()
    with pytest.raises(ValueError, match=r"not difficult.*Received: 1 photographs with none"):
        retinanet_batches(marked.select([2]), UNIT, RECIPE)


def test_batches_go_on_as_if_never_interrupted(photographs):
    steps = list(retinanet_batches(photographs, UNIT, RECIPE, seed=4).take(5))
    resumed = list(retinanet_batches(photographs, UNIT, RECIPE, seed=4, first_step=3).take(2))
    for one, other in zip(steps[3:], resumed, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    other = next(iter(retinanet_batches(photographs, UNIT, RECIPE, seed=5)))
    assert np.any(steps[0][0] != other[0])


@pytest.mark.parametrize("preset", ["released", "unit"])
def test_a_photograph_is_the_same_alone_and_among_larger_ones(photographs, preset):
    recipe = dataclasses.replace(RECIPE, images_per_batch=3)
    ((images, sizes),) = detection_batches(photographs, {"preset": preset}, recipe)
    ((alone, _),) = detection_batches(photographs.select([1]), {"preset": preset}, recipe)
    np.testing.assert_allclose(alone[0], images[1], atol=1e-4)
    for image, (height, width) in zip(images.numpy(), sizes.numpy(), strict=True):
        assert not image[height:].any() and not image[:, width:].any()
        assert np.std(image[:height, :width]) > 0.1


def test_what_the_targets_say_is_read_back(fresh, photographs):
    """The box that an anchor shall learn, placed again, is its object's."""
    images, labels = first_batch(photographs)
    targets, classes = fresh.label_encoder(images, labels["boxes"], labels["labels"])
    placed = place_boxes(fresh, targets, tf.constant(images)).numpy()
    for row, kinds in enumerate(classes.numpy().astype(int)):
        assert set(kinds) >= {0, 1, -1}
        for kind in (0, 1):
            anchors = placed[row, kinds == kind]
            expected = np.broadcast_to(labels["boxes"][row, kind], anchors.shape)
            np.testing.assert_allclose(anchors, expected, atol=1e-3)


def test_a_hand_made_head_finds_its_anchors(keras_hub, network, photographs):
    recipe = dataclasses.replace(RECIPE, min_score=0.5, max_overlap=1.0, max_detections=2000)
    model = build_retinanet(network, 2, recipe)
    for head in (model.box_head, model.classification_head):
        head.prediction_layer.kernel.assign(0 * head.prediction_layer.kernel)
    bias = np.full((9, 2), -10.0)
    bias[3, 1] = 2.0  # square anchors of the smallest size are of class 1
    model.classification_head.prediction_layer.bias.assign(bias.ravel())
    found = detect_retinanet(model, photographs, recipe)
    for detections, (height, width) in zip(found, SIZES, strict=True):
        scale = 64 / max(height, width)
        expected = []
        for level in (3, 4, 5):
            pitch = 2**level
            centres = np.mgrid[:64:pitch, :64:pitch].reshape(2, -1).T[:, ::-1]  # x, y
            half = recipe.anchor_size * pitch / 2
            expected.append(np.hstack([centres - half, centres + half]) / scale)
        limits = [width, height] * 2
        expected = np.clip(np.concatenate(expected), 0, limits)
        expected = expected[(expected[:, 2:] > expected[:, :2]).all(axis=1)]
        order = np.lexsort(expected.T)
        np.testing.assert_allclose(
            detections.boxes[np.lexsort(detections.boxes.T)], expected[order], atol=1e-3
        )
        assert (detections.classes == 1).all()
        np.testing.assert_allclose(detections.scores, 1 / (1 + np.exp(-2)), rtol=1e-5)


def test_learning_lowers_the_loss_and_finds_the_objects(trained, photographs):
    model, losses, before = trained
    assert losses[-1] < 0.5 * losses[0] and losses[-1] > 0
    moved = [np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True)]
    assert all(moved)  # the network below too
    found = detect_retinanet(model, photographs, RECIPE)
    surest = [one.boxes[one.classes == 0][0] for one in found]
    overlaps = [
        box_overlaps(box[None], boxes[:1])[0, 0]
        for box, boxes in zip(surest, photographs.boxes, strict=True)
    ]
    scores = score_detections(
        [(one.boxes, one.scores, one.classes) for one in found], photographs.objects, 2
    )
    assert np.mean(overlaps) > 0.4, overlaps
    assert scores["map_voc07"] > 0.5


def test_a_saved_detector_detects_the_same(trained, photographs, tmp_path):
    detector = RetinaNetDetector(model=trained[0], recipe=RECIPE)
    detector.save(tmp_path)
    loaded = RetinaNetDetector.load(tmp_path, RECIPE)
    told = []
    found = detector.detect(photographs, progress=lambda *counts: told.append(counts))
    assert told == [(2, 3), (3, 3)]
    for one, other in zip(found, loaded.detect(photographs), strict=True):
        assert len(one)
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_network_is_copied_or_its_structure_alone(fresh, scratch, network):
    kernel = network.whole.get_layer("conv1").kernel.numpy()
    copies = [
        model.backbone.image_encoder.network.get_layer("conv1").kernel.numpy()
        for model in (fresh, scratch)
    ]
    np.testing.assert_allclose(copies[0], kernel, rtol=1e-4)  # normalisation is folded into it
    assert np.abs(copies[1] - kernel).max() > 0.01


def test_a_checkpoint_goes_on_bit_for_bit(trained, scratch, tmp_path):
    model = trained[0]
    with Run.open(tmp_path / "run", {}, kind="retinanet") as run:
        run.save_checkpoint(model, 30, {})
        assert run.restore(scratch).step == 30
    for one, other in zip(model.variables, scratch.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(scratch.optimizer.iterations) == int(model.optimizer.iterations) == 30


def test_heads_start_from_rare_objects_and_whole_anchors(fresh):
    predicted = fresh(np.zeros((1, 64, 64, 3), "float32"))
    chances = 1 / (1 + np.exp(-predicted["cls_logits"].numpy()))
    assert chances.min() > 0.001
    assert chances.max() < 0.1
    assert np.abs(predicted["bbox_regression"]).max() < 2
    kernels = [layer.kernel.numpy() for layer in fresh.box_head.conv_layers]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01  # keras-hub starts them equal


def test_weights_depend_on_network_and_seed_alone(fresh, trained):
    _, _, before = trained
    for first, second in zip(fresh.get_weights(), before, strict=True):
        np.testing.assert_array_equal(first, second)


def test_mixed_precision_learns_from_the_same_boxes(fresh, network, photographs):
    mixed = build_retinanet(network, 2, dataclasses.replace(RECIPE, dtype_policy="mixed_bfloat16"))
    assert mixed.backbone.compute_dtype == mixed.box_head.compute_dtype == "bfloat16"
    images, labels = first_batch(photographs)
    given = (images, labels["boxes"] + np.float32(0.2), labels["labels"])
    for one, other in zip(mixed.label_encoder(*given), fresh.label_encoder(*given), strict=True):
        np.testing.assert_array_equal(one, other)
    images = tf.constant(images)
    expected = fresh.compute_loss(images, labels, fresh(images), None)
    before = mixed.get_weights()
    history = mixed.fit(tf.data.Dataset.from_tensors((images, labels)), verbose=0).history
    assert history["loss"][0] == pytest.approx(float(expected), rel=0.05)
    assert all(np.any(new != old) for new, old in zip(mixed.get_weights(), before, strict=True))


def test_float16_scales_its_loss(keras_hub, network):
    model = build_retinanet(network, 2, dataclasses.replace(RECIPE, dtype_policy="mixed_float16"))
    assert float(model.optimizer.scale_loss(1.0)) > 1


def test_a_batch_without_objects_teaches_nothing(fresh, photographs):
    images, labels = first_batch(photographs)
    nothing = {name: np.full_like(values, -1) for name, values in labels.items()}
    variables = fresh.trainable_variables
    with tf.GradientTape() as tape:
        loss = fresh.compute_loss(tf.constant(images), nothing, fresh(images), None)
    assert float(loss) == 0
    gradients = tape.gradient(loss, [one.value for one in variables])
    assert not any(np.any(one) for one in gradients if one is not None)


def test_networks_without_the_maps_are_refused(keras_hub, network):
    whole = FeatureNetwork(
        **{**{f.name: getattr(network, f.name) for f in dataclasses.fields(network)}, "whole": None}
    )
    with pytest.raises(ValueError, match=r"can be taken apart.*Received: .*compact"):
        build_retinanet(whole, 2, RECIPE)
    flat = dataclasses.replace(network, whole=small(input_size=None, width=8, num_features=8))
    with pytest.raises(ValueError, match="a map of every stride"):
        build_retinanet(flat, 2, RECIPE)


def test_without_keras_hub_one_line_says_how_to_get_it(monkeypatch, network, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    for call in (lambda: build_retinanet(network, 2), lambda: load_retinanet(tmp_path / "a.keras")):
        with pytest.raises(MissingPackageError, match=r"pip install 'keras_ctxattr\[detection\]'"):
            call()


def test_the_rate_rises_and_falls():
    recipe = RetinaNetRecipe(learning_rate=1.0, warmup=0.1)
    rates = [recipe.rate_at(progress) for progress in (0, 0.05, 0.1, 0.5, 1)]
    assert rates == pytest.approx([0.01, 0.497, 0.976, 0.5, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"max_level": 4}, "min_level=3, max_level=4"),
        ({"optimizer_steps": 0}, "`optimizer_steps` must be at least 1"),
        ({"flip": 1.5}, "`flip` must be 0 to 1"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be over 0"),
        ({"dtype_policy": "float8"}, "`dtype_policy` must be one of"),
    ],
)
def test_impossible_recipes_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        RetinaNetRecipe(**settings)
