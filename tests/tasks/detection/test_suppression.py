"""Non-maximum suppression: against a plain restatement, and by hand."""

import numpy as np
import pytest

from keras_ctxattr.tasks.detection.metrics import box_overlaps
from keras_ctxattr.tasks.detection.suppression import suppress


def restate(boxes, scores, *, min_score, max_overlap, max_per_image):
    """Takes boxes one by one, as the definition says."""
    kept = []
    for number in range(scores.shape[1]):
        taken = []
        for row in np.argsort(-scores[:, number], kind="stable"):
            if scores[row, number] <= min_score:
                continue
            overlaps = box_overlaps(boxes[row][None], boxes[taken])
            if not (overlaps > max_overlap).any():
                taken.append(row)
                kept.append((scores[row, number], number, row))
    return sorted(kept, reverse=True)[:max_per_image]


@pytest.mark.parametrize("min_score", [-np.inf, -0.5, 0.3])
@pytest.mark.parametrize("max_overlap", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("max_per_image", [1, 7, 500])
def test_the_same_boxes_stay_as_one_by_one(min_score, max_overlap, max_per_image):
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, 60, (40, 2))
    boxes = np.hstack([corners, corners + generator.uniform(5, 40, (40, 2))]).astype("float32")
    scores = generator.normal(size=(40, 4)).astype("float32")
    options = {
        "min_score": min_score,
        "max_overlap": max_overlap,
        "max_per_image": max_per_image,
    }
    found = suppress(boxes, scores, **options)
    expected = restate(boxes, scores, **options)
    np.testing.assert_array_equal(found.scores, [score for score, _, _ in expected])
    np.testing.assert_array_equal(found.classes, [number for _, number, _ in expected])
    np.testing.assert_array_equal(found.boxes, boxes[[row for _, _, row in expected]])


def test_an_overlap_of_just_the_limit_is_allowed():
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [0, 0, 10, 20]])  # 1/3, 1/2, 1/2
    scores = np.array([[0.9], [0.8], [0.7]])
    found = suppress(boxes, scores, min_score=0.1, max_overlap=0.5, max_per_image=10)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7])
    found = suppress(boxes, scores, min_score=0.1, max_overlap=0.49, max_per_image=10)
    np.testing.assert_allclose(found.scores, [0.9, 0.8])


def test_classes_do_not_suppress_each_other():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10]])
    found = suppress(boxes, np.array([[0.9, 0.2], [0.5, 0.8]]), min_score=0.0, max_overlap=0.3)
    np.testing.assert_array_equal(found.classes, [0, 1])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])


def test_boxes_may_reach_out_of_the_image():
    boxes = np.array([[-5, -7, 900, 10]])
    np.testing.assert_array_equal(suppress(boxes, np.array([[0.5]])).boxes, boxes)


@pytest.mark.parametrize("scores", [np.zeros((0, 3)), np.full((0, 3), 0.9), np.zeros((4, 3))])
def test_nothing_sure_enough_is_no_detection(scores):
    assert len(suppress(np.zeros((len(scores), 4)), scores)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((2, 3))}, r"\[2, 3\] and \[2, 1\]"),
        ({"scores": np.zeros(2)}, r"\[2, 4\] and \[2\]"),
        ({"max_overlap": 1.5}, "max_overlap=1.5"),
        ({"max_per_image": 0}, "max_per_image=0"),
        ({"scores": np.array([[0.1], [np.nan]])}, "finite"),
    ],
)
def test_impossible_input_is_named(change, message):
    given = {"boxes": np.zeros((2, 4)), "scores": np.zeros((2, 1)), **change}
    with pytest.raises(ValueError, match=message):
        suppress(given.pop("boxes"), given.pop("scores"), **given)


def test_boxes_of_each_class_are_its_own():
    boxes = np.array([[[0, 0, 10, 10], [50, 50, 60, 60]], [[0, 0, 10, 11], [80, 80, 90, 90]]])
    scores = np.array([[0.9, 0.8], [0.7, 0.6]])
    found = suppress(boxes, scores)
    assert found.classes.tolist() == [0, 1, 1]  # the second of class 0 says the same again
    assert found.boxes.tolist() == [[0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]]
