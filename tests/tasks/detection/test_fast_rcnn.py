"""Fast R-CNN: sampling, losses, batches, training, detection."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import compact
from keras_ctxattr.tasks.detection.candidates import find_candidates
from keras_ctxattr.tasks.detection.canvases import mirror_boxes
from keras_ctxattr.tasks.detection.fast_rcnn import (
    FastRcnn,
    FastRcnnRecipe,
    detect_regions,
    fast_rcnn_batches,
    fast_rcnn_network,
)
from keras_ctxattr.tasks.detection.fast_rcnn.batches import sample_regions
from keras_ctxattr.tasks.detection.fast_rcnn.losses import classification_loss, regression_loss
from keras_ctxattr.tasks.detection.fast_rcnn.method import FastRcnnDetector, FastRcnnMethod
from keras_ctxattr.tasks.detection.metrics import score_detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.regression import decode_boxes, encode_boxes
from keras_ctxattr.tasks.detection.starting import Start
from keras_ctxattr.tasks.detection.transfer import open_feature_network
from tests.contracts import dtype_policy
from tests.tasks.detection.photographs import draw_photographs, draw_proposals

RECIPE = FastRcnnRecipe(
    min_side=96,
    max_side=128,
    regions_per_image=16,
    region_size=3,
    hidden_units=32,
    dropout=0.0,
    learning_rate=0.02,
    optimizer_steps=60,
    dtype_policy="float32",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return draw_photographs(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def proposals(photographs):
    return draw_proposals(photographs)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "backbone.keras"
    keras.utils.set_random_seed(0)
    compact(width=8, num_features=16).save(path)
    return open_feature_network(path)


def make_model(features, recipe=RECIPE, policy="float32"):
    keras.utils.set_random_seed(0)
    model = FastRcnn(fast_rcnn_network(features, 2, recipe, policy=policy))
    optimizer = keras.optimizers.SGD(recipe.learning_rate, momentum=0.9)
    model.compile(optimizer=optimizer, jit_compile=False)
    return model


# --- Candidates and sampling ---


def as_photographs(boxes, classes, difficult):
    return BoxedPhotographs(
        manifest=np.zeros(len(boxes)),  # only its length matters here
        boxes=tuple(np.array(one, "float32").reshape(-1, 4) for one in boxes),
        classes=tuple(np.array(one, "int32") for one in classes),
        difficult=tuple(np.array(one, bool) for one in difficult),
        class_names=("a", "b"),
    )


def test_candidates_are_objects_and_proposals_with_the_object_they_overlap_most():
    photographs = as_photographs(
        [[[0, 0, 10, 10], [20, 0, 30, 10]], []], [[1, 0], []], [[False, False], []]
    )
    proposals = [np.array([[0, 0, 10, 5], [22, 0, 30, 10], [50, 50, 60, 60]]), np.zeros((1, 4))]
    found = find_candidates(photographs, proposals)
    assert found.offsets.tolist() == [0, 5, 6]
    assert found.overlaps.tolist() == pytest.approx([1, 1, 0.5, 0.8, 0, 0])
    assert found.labels[:4].tolist() == [2, 1, 2, 1]
    assert found.targets[3].tolist() == [20, 0, 30, 10]


def test_difficult_objects_are_no_examples():
    photographs = as_photographs([[[0, 0, 10, 10], [20, 0, 30, 10]]], [[1, 0]], [[True, False]])
    found = find_candidates(photographs, [np.array([[0, 0, 10, 10]])])
    assert found.boxes.tolist() == [[20, 0, 30, 10], [0, 0, 10, 10]]
    assert found.overlaps.tolist() == [1, 0]


def test_proposals_of_other_photographs_are_refused(photographs):
    with pytest.raises(ValueError, match="proposals of every photograph"):
        find_candidates(photographs, [])


def count_kinds(overlaps, recipe, key):
    rows, is_there = sample_regions(tf.constant(overlaps, tf.float32), recipe, key)
    chosen = np.asarray(overlaps)[rows.numpy()[is_there.numpy()]]
    return rows.numpy(), is_there.numpy(), chosen


def test_a_quarter_of_the_regions_are_objects_and_the_rest_touches_one():
    overlaps = np.concatenate([np.linspace(0.5, 1, 40), np.linspace(0.1, 0.49, 40), np.zeros(100)])
    _, is_there, chosen = count_kinds(overlaps, FastRcnnRecipe(), [1, 2])
    assert is_there.sum() == 16 + 40
    assert (chosen >= 0.5).sum() == 16
    assert sorted(chosen[16:]) == sorted(overlaps[40:80])  # all that are near, nobody twice


def test_where_few_candidates_are_the_places_stay_empty():
    rows, is_there, chosen = count_kinds([0.7, 0.2, 0.3], FastRcnnRecipe(), [3, 4])
    assert is_there.sum() == 3
    assert is_there[:3].all()
    assert chosen.tolist()[0] == pytest.approx(0.7)
    assert (rows[3:] == 0).all()


def test_without_objects_everything_is_background():
    _, is_there, chosen = count_kinds(np.zeros(100), FastRcnnRecipe(), [5, 6])
    assert is_there.all()
    assert (chosen == 0).all()


def test_draws_differ_by_key_alone():
    overlaps = np.linspace(0, 1, 300)
    one, again, other = (
        count_kinds(overlaps, FastRcnnRecipe(), key)[0] for key in ([1, 1], [1, 1], [1, 2])
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


# --- Batches ---


def test_batches_from_a_step_on_are_the_same(photographs, proposals):
    candidates = find_candidates(photographs, proposals)

    def batches(first):
        return fast_rcnn_batches(photographs.manifest, candidates, RECIPE, seed=5, first_step=first)

    whole = list(batches(0).take(4).as_numpy_iterator())
    later = list(batches(2).take(2).as_numpy_iterator())
    for expected, found in zip(whole[2:], later, strict=True):
        for name, values in expected.items():
            assert np.array_equal(found[name], values), name


def test_labels_and_boxes_fit_what_is_seen(photographs, proposals):
    """Where a region is labelled red or blue, its target is that colour, mirrored or not."""
    candidates = find_candidates(photographs, proposals)
    dataset = fast_rcnn_batches(photographs.manifest, candidates, RECIPE)
    seen = set()
    for batch in dataset.take(6).as_numpy_iterator():
        assert batch["images"].shape[1] % 64 == batch["images"].shape[2] % 64 == 0
        for image, size, regions, labels, targets in zip(
            *(batch[name] for name in ("images", "sizes", "regions", "labels", "targets")),
            strict=True,
        ):
            assert not image[size[0] :].any()
            assert not image[:, size[1] :].any()
            for region, label, target in zip(regions, labels, targets, strict=True):
                assert (region[:2] >= -0.01).all()
                assert (region[2:] <= size[::-1] + 0.01).all()
                if label > 0:
                    left, top, right, bottom = target.round().astype(int)
                    middle = image[(top + bottom) // 2, (left + right) // 2].astype(int)
                    seen.add((label, bool(middle[0] > middle[2])))
    # (The second square may lie on the first one; the last one drawn is whole.)
    assert {(1, True), (2, False)} <= seen


def test_flips_are_drawn_and_change_boxes(photographs, proposals):
    candidates = find_candidates(photographs, proposals)

    def first(flip):
        recipe = FastRcnnRecipe(min_side=96, max_side=128, flip=flip)
        dataset = fast_rcnn_batches(photographs.manifest, candidates, recipe, seed=1)
        return next(dataset.as_numpy_iterator())

    plain, flipped = first(0.0), first(1.0)
    for number, (height, width) in enumerate(plain["sizes"]):
        image = plain["images"][number, :height, :width]
        assert np.array_equal(flipped["images"][number, :height, :width], image[:, ::-1])
        mirrored = mirror_boxes(plain["regions"][number], width)
        assert np.allclose(flipped["regions"][number], mirrored)


# --- Boxes and losses ---


def test_shifts_lead_from_box_to_target():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 100, (20, 2, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(2, 90, (20, 2, 2))], -1)
    own, goals = boxes[:, 0].astype("float32"), boxes[:, 1].astype("float32")
    assert np.allclose(decode_boxes(own, encode_boxes(own, goals)), goals, atol=1e-3)


def test_shifts_by_hand():
    shifts = encode_boxes(np.array([[0.0, 0, 10, 20]]), np.array([[5.0, 0, 15, 20]]))
    assert np.allclose(shifts, [[0.5 / 0.1, 0, 0, 0]])
    shifts = encode_boxes(np.array([[0.0, 0, 10, 20]]), np.array([[-5.0, 0, 15, 20]]))
    assert np.allclose(shifts, [[0, 0, np.log(2) / 0.2, 0]], atol=1e-5)


def test_classification_leaves_out_what_is_no_region():
    logits = np.zeros((1, 3, 4), "float32")
    logits[0, 0, 2] = 50.0
    logits[0, 2] = [0, 9, 0, 0]
    loss = classification_loss(np.array([[2, 0, -1]]), logits)
    assert float(loss) == pytest.approx(np.log(4) / 2)


def test_regression_counts_the_class_of_objects_alone():
    shifts = np.zeros((1, 3, 2, 4), "float32")
    shifts[0, 0, 1] = [0.5, 3, 0, 0]  # of class 2
    shifts[0, 0, 0] = 100
    shifts[0, 1] = 100  # background
    loss = regression_loss(np.array([[2, 0, -1]]), shifts, np.zeros((1, 3, 4), "float32"))
    assert float(loss) == pytest.approx((0.5 * 0.25 + 2.5) / 2)


# --- Network ---


def test_a_photograph_means_the_same_in_any_company(features):
    model = make_model(features)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (64, 96, 3), np.uint8)
    canvases = np.zeros((2, 128, 128, 3), "uint8")
    canvases[0, :64, :96] = image
    canvases[1] = generator.integers(0, 256, (128, 128, 3))
    regions = np.array([[[4, 4, 60, 50], [30, 10, 90, 60]]], "float32")
    alone = model.network(
        {"images": canvases[:1], "sizes": np.array([[64, 96]]), "regions": regions}
    )
    together = model.network(
        {
            "images": canvases,
            "sizes": np.array([[64, 96], [128, 128]]),
            "regions": np.repeat(regions, 2, 0),
        }
    )
    assert np.allclose(alone["logits"][0], together["logits"][0], atol=1e-4)


def test_it_starts_from_the_transferred_weights(features):
    model = make_model(features)
    kernel = model.network.get_layer(features.model.name).get_layer("conv3").kernel
    assert np.array_equal(kernel, features.model.get_layer("conv3").kernel)


@pytest.mark.parametrize(
    ("policy", "box_regression"), [("float32", True), ("mixed_bfloat16", False)]
)
def test_loss_falls_and_is_not_zero(photographs, proposals, features, policy, box_regression):
    recipe = FastRcnnRecipe(**{**vars(RECIPE), "box_regression": box_regression})
    candidates = find_candidates(photographs, proposals)
    with dtype_policy("float32"):
        model = make_model(features, recipe, policy)
    dataset = fast_rcnn_batches(photographs.manifest, candidates, recipe)
    history = model.fit(dataset, steps_per_epoch=6, epochs=3, verbose=0).history
    assert 0 < history["loss"][-1] < history["loss"][0]
    assert (history["regression"][-1] > 0) == box_regression


def test_a_backbone_rate_of_zero_leaves_transferred_layers_alone(photographs, proposals, features):
    keras.utils.set_random_seed(0)
    names = [layer.name for layer in features.model.layers]
    model = FastRcnn(fast_rcnn_network(features, 2, RECIPE), transferred=names, backbone_rate=0)
    model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    candidates = find_candidates(photographs, proposals)
    before = model.network.get_layer("fc7").kernel.numpy()
    dataset = fast_rcnn_batches(photographs.manifest, candidates, RECIPE)
    model.fit(dataset, steps_per_epoch=2, verbose=0)
    part = model.network.get_layer(features.model.name)
    assert np.array_equal(part.get_layer("conv1").kernel, features.model.get_layer("conv1").kernel)
    assert not np.array_equal(model.network.get_layer("fc7").kernel, before)


def test_squares_are_found_after_training(photographs, proposals, features, tmp_path):
    recipe = FastRcnnRecipe(**{**vars(RECIPE), "box_regression": True, "learning_rate": 0.002})
    method = FastRcnnMethod(features, recipe, Start(fresh="gaussian"), seed=0)
    model = method.build(2)
    batches = method.batches(photographs, proposals)
    assert method.initialize(model, batches)["converged"]

    def score(detector):
        found = detector.detect(photographs, proposals)
        columns = [(one.boxes, one.scores, one.classes) for one in found]
        return score_detections(columns, photographs.objects, 2)["map_voc07"], columns

    before, _ = score(method.detector(model))
    model.fit(batches, steps_per_epoch=80, verbose=0)
    after, columns = score(method.detector(model))
    assert after > max(0.6, before + 0.2)
    method.detector(model).save(tmp_path)
    again, others = score(FastRcnnDetector.load(tmp_path, recipe))
    assert again == after
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(columns, others, strict=True))


def test_a_photograph_without_proposals_has_no_detections(photographs, features):
    nothing = [np.zeros((0, 4), "float32")] * len(photographs)
    found = detect_regions(make_model(features), photographs.manifest, nothing, RECIPE)
    assert [len(one) for one in found] == [0] * len(photographs)


def test_rates_follow_the_recipe():
    steps = FastRcnnRecipe(learning_rate=0.001, optimizer_steps=150, decay_steps=50, warmup=0.0)
    assert [steps.rate_at(step / 150) for step in (0, 49, 50, 149)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-5]
    )
    assert FastRcnnRecipe(learning_rate=0.001).rate_at(1.0) == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_side": 700}, "`min_side` must be at least 32 and `max_side` no less"),
        ({"foreground": 1.5}, "`foreground` must be 0 to 1"),
        ({"regions_per_image": 0}, "`regions_per_image` must be at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be over 0"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FastRcnnRecipe(**changes)
