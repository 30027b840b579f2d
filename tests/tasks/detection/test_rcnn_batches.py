"""Batches of R-CNN: what is drawn, from where, and that any step can be entered."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.tasks.detection.candidates import find_candidates
from keras_ctxattr.tasks.detection.rcnn import RcnnRecipe, rcnn_batches
from keras_ctxattr.tasks.detection.rcnn.batches import canvas_loader, draw_regions
from tests.tasks.detection.photographs import draw_photographs, draw_proposals

RECIPE = RcnnRecipe(crop_side=56, context=4, max_side=80, images_per_batch=3, crops_per_batch=20)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return draw_photographs(tmp_path_factory.mktemp("squares"), 7, side=64)


@pytest.fixture(scope="module")
def candidates(photographs):
    return find_candidates(photographs, draw_proposals(photographs))


def as_arrays(dataset, count):
    return [
        {name: values.numpy() for name, values in batch.items()} for batch in dataset.take(count)
    ]


@pytest.fixture(scope="module")
def steps(photographs, candidates):
    return as_arrays(rcnn_batches(photographs.manifest, candidates, RECIPE, seed=3), 12)


def test_shapes_are_static(photographs, candidates):
    spec = rcnn_batches(photographs.manifest, candidates, RECIPE).element_spec
    assert spec == {
        "canvases": tf.TensorSpec([3, 6400, 3], tf.uint8),
        "sizes": tf.TensorSpec([3, 2], tf.int32),
        "regions": tf.TensorSpec([20, 4], tf.float32),
        "places": tf.TensorSpec([20], tf.int32),
        "labels": tf.TensorSpec([20], tf.int32),
    }


def test_any_step_can_be_entered(photographs, candidates, steps):
    entered = rcnn_batches(photographs.manifest, candidates, RECIPE, seed=3, first_step=9)
    for found, expected in zip(as_arrays(entered, 3), steps[9:], strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_another_seed_gives_other_regions(photographs, candidates, steps):
    other = as_arrays(rcnn_batches(photographs.manifest, candidates, RECIPE, seed=4), 1)[0]
    assert (other["regions"] != steps[0]["regions"]).any()


def test_objects_come_first_then_background(steps):
    for step in steps:
        assert (step["labels"][:5] > 0).all()
        assert (step["labels"][5:] == 0).all()


def test_every_region_is_a_candidate_of_its_photograph(photographs, candidates, steps):
    rows = shuffled_rows(tf.range(36, dtype=tf.int64), 7, 3).numpy().reshape(12, 3)
    mirrored = 0
    for step, own in zip(steps, rows, strict=True):
        for region, place, label in zip(
            step["regions"], step["places"], step["labels"], strict=True
        ):
            row = own[place]
            own_size = [photographs.manifest.heights[row], photographs.manifest.widths[row]]
            size = np.round(np.array(own_size) * min(80 / max(own_size), 1))
            np.testing.assert_array_equal(step["sizes"][place], size)
            scale = (size / own_size)[[1, 0, 1, 0]]
            mirrored += region[0] > region[2]
            box = (region[[2, 1, 0, 3]] if region[0] > region[2] else region) / scale
            numbers = slice(candidates.offsets[row], candidates.offsets[row + 1])
            near = np.abs(candidates.boxes[numbers] - box).max(axis=1)
            number = near.argmin()
            assert near[number] < 1e-3
            is_object = candidates.overlaps[numbers][number] >= 0.5
            assert label == (candidates.labels[numbers][number] if is_object else 0)
    assert 80 < mirrored < 160  # of 240


def test_each_object_is_as_likely_as_any_other():
    is_object = tf.constant([True, False, True, False, False, True])
    recipe = dataclasses.replace(RECIPE, crops_per_batch=4000, foreground=0.5)
    drawn = draw_regions(is_object, recipe, tf.constant([1, 2], tf.int64)).numpy()
    np.testing.assert_allclose(np.bincount(drawn[:2000], minlength=6)[[0, 2, 5]], 667, atol=75)
    np.testing.assert_allclose(np.bincount(drawn[2000:], minlength=6)[[1, 3, 4]], 667, atol=75)


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_takes_the_place_of_the_other(value):
    drawn = draw_regions(tf.fill([3], value), RECIPE, tf.constant([1, 2], tf.int64)).numpy()
    assert drawn.shape == (20,)
    assert set(drawn) == {0, 1, 2}


@pytest.mark.parametrize(
    ("max_side", "size"), [(40, (40, 30)), (50, (40, 30)), (20, (20, 15)), (21, (21, 16))]
)
def test_a_canvas_holds_the_photograph_no_larger_than_asked(tmp_path, max_side, size):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    (tmp_path / "photographs").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photographs" / "one.png")
    manifest = scan_images([tmp_path / "photographs"], cache_dir=tmp_path)
    canvas, found, scale = canvas_loader(manifest, max_side)(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(found, size)
    np.testing.assert_allclose(scale, np.array([size[1] / 30, size[0] / 40] * 2))
    assert canvas.shape == (max_side**2, 3)
    count = size[0] * size[1]
    assert not canvas.numpy()[count:].any()
    if size == (40, 30):
        np.testing.assert_array_equal(canvas[:count], pixels.reshape(-1, 3))
    else:
        assert np.abs(canvas.numpy()[:count].mean(0) - pixels.mean((0, 1))).max() < 8


def test_photographs_without_a_region_are_named(photographs):
    nothing = [np.zeros((0, 4), "float32")] * 7
    bare = dataclasses.replace(photographs, boxes=tuple(nothing))
    bare = dataclasses.replace(bare, classes=tuple(np.zeros(0, int) for _ in nothing))
    bare = dataclasses.replace(bare, difficult=tuple(np.zeros(0, bool) for _ in nothing))
    with pytest.raises(ValueError, match="7 of 7 without"):
        rcnn_batches(bare.manifest, find_candidates(bare, nothing), RECIPE)
    somewhere = [np.array([[0, 0, 9, 9]], "float32")] * 7
    with pytest.raises(ValueError, match="There must be objects to learn"):
        rcnn_batches(bare.manifest, find_candidates(bare, somewhere), RECIPE)
