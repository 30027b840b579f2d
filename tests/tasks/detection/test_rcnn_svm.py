"""SVMs on regions: against LinearSVC, and that mining finds what all negatives would teach."""

import dataclasses

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from keras_ctxattr.tasks.detection.metrics import box_overlaps
from keras_ctxattr.tasks.detection.rcnn import RcnnRecipe
from keras_ctxattr.tasks.detection.rcnn.svm import HardNegatives, class_overlaps

RECIPE = RcnnRecipe(svm_refresh=200, svm_cache=300, svm_c=0.01)
CENTRES = np.array([[6, 0, 0, 1], [0, 6, 0, 1], [0, 0, 6, 1]])


def make_samples(seed=0, num_parts=12, part=100):
    """Objects of classes 0 and 2; negatives far from them, but for a few in the last parts."""
    generator = np.random.default_rng(seed)
    classes = generator.choice([0, 2], 40)
    positives = CENTRES[classes] + generator.normal(0, 1, (40, 4))
    parts = [generator.normal(0, 1, (part, 4)) - 3 for _ in range(num_parts)]
    for one in parts[-2:]:
        one[:5] = CENTRES[0] * 0.6 + generator.normal(0, 0.5, (5, 4))
    excluded = [generator.uniform(size=(part, 3)) < 0.1 for _ in parts]
    return positives.astype("float32"), classes, [one.astype("float32") for one in parts], excluded


def mine(recipe, positives, classes, parts, excluded):
    miner = HardNegatives(positives, classes, 3, recipe)
    sizes = []
    for rows, mask in zip(parts, excluded, strict=True):
        miner.add(rows, mask)
        sizes.append(len(miner))
    return miner.finish(), sizes


def test_it_is_the_classifier_of_linear_svc():
    positives, classes, parts, excluded = make_samples()
    recipe = dataclasses.replace(RECIPE, svm_refresh=10**6, svm_cache=10**6)
    svms, _ = mine(recipe, positives, classes, parts, excluded)
    rows, masks = np.concatenate(parts), np.concatenate(excluded)
    scale = 20 / np.linalg.norm(rows, axis=1).mean()
    for number in (0, 2):
        own = positives[classes == number]
        samples = np.concatenate([own, rows[~masks[:, number]]]) * scale
        targets = np.arange(len(samples)) < len(own)
        peer = LinearSVC(C=0.01, intercept_scaling=10, tol=1e-8, max_iter=10**6)
        peer.fit(samples, targets, sample_weight=np.where(targets, 2, 1))
        expected = peer.decision_function(rows * scale)
        found = svms.decision_function(rows)[:, number]
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_mining_finds_the_hard_negatives():
    samples = make_samples()
    everything = dataclasses.replace(RECIPE, svm_refresh=10**6, svm_cache=10**6)
    all_at_once, _ = mine(everything, *samples)
    mined, sizes = mine(RECIPE, *samples)
    only_first = mine(RECIPE, *samples[:2], samples[2][:10], samples[3][:10])[0]
    hard = np.concatenate([one[:5] for one in samples[2][-2:]])
    with_all, without = (one.decision_function(hard)[:, 0] for one in (all_at_once, only_first))
    np.testing.assert_allclose(mined.decision_function(hard)[:, 0], with_all, atol=0.15)
    assert without.mean() > with_all.mean() + 0.3
    assert max(sizes) <= 300 + 200 + 100


def test_the_cache_is_bounded_where_all_is_hard():
    generator = np.random.default_rng(1)
    positives = generator.normal(size=(30, 4)).astype("float32")
    parts = [generator.normal(size=(100, 4)).astype("float32") for _ in range(12)]
    nothing = [np.zeros((100, 3), bool)] * 12
    _, sizes = mine(RECIPE, positives, np.zeros(30, int), parts, nothing)
    assert 300 <= max(sizes) <= 300 + 200


def test_a_class_without_objects_is_never_found():
    positives, classes, parts, excluded = make_samples()
    svms, _ = mine(RECIPE, positives, classes, parts, excluded)
    assert svms.weights.shape == (3, 5)
    scores = svms.decision_function(CENTRES)
    assert (scores[:, 1] < -1e5).all()
    assert (scores.argmax(axis=1)[[0, 2]] == [0, 2]).all()


def test_excluded_proposals_teach_nothing():
    positives, classes, parts, excluded = make_samples()
    masks = [np.zeros_like(mask) for mask in excluded]
    alike = CENTRES[[0] * 50].astype("float32")  # exactly like objects of class 0
    with_them, _ = mine(RECIPE, positives, classes, [alike, *parts], [alike[:, :3] > 5, *masks])
    assert (with_them.decision_function(alike)[:, 0] > 0).all()


def test_there_must_be_objects_and_proposals():
    with pytest.raises(ValueError, match="objects to learn"):
        HardNegatives(np.zeros((0, 4), "float32"), np.zeros(0, int), 3, RECIPE)
    with pytest.raises(ValueError, match="negatives of a class"):
        HardNegatives(np.ones((2, 4), "float32"), np.zeros(2, int), 3, RECIPE).finish()


def test_overlaps_are_those_with_the_nearest_object_of_a_class():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], "float32")
    objects = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [5, 0, 15, 10]], "float32")
    found = class_overlaps(boxes, objects, np.array([1, 1, 2]), 3)
    plain = box_overlaps(boxes, objects)
    np.testing.assert_allclose(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1], plain[:, :2].max(axis=1))
    np.testing.assert_allclose(found[:, 2], plain[:, 2])
    assert class_overlaps(boxes, objects[:0], np.zeros(0, int), 3).tolist() == [[0] * 3] * 2
