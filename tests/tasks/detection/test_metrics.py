"""VOC's rules by hand, one by one, and all together against a plain restatement."""

import numpy as np
import pytest

from keras_ctxattr.tasks.detection.metrics import (
    average_precision_11_points,
    average_precision_area,
    box_overlaps,
    match_detections,
    score_detections,
)

WHOLE = [0, 0, 10, 10]


def match(detections, objects, difficult=None):
    """Matches in one image: (box, score) pairs, boxes of objects."""
    boxes = np.array([box for box, _ in detections], float).reshape(-1, 4)
    scores = np.array([score for _, score in detections], float)
    truth = np.array(objects, float).reshape(-1, 4)
    flags = np.zeros(len(truth), bool) if difficult is None else np.array(difficult)
    return match_detections([(boxes, scores)], [(truth, flags)])


# --- Overlaps ---


def test_overlap_counts_pixels_with_both_ends_as_voc_does():
    """VOC's boxes (1, 1, 10, 10) and (6, 1, 15, 10): 5 columns of 10 pixels are shared, of 15."""
    printed = np.array([[1, 1, 10, 10], [6, 1, 15, 10]])
    edges = printed - [1, 1, 0, 0]
    assert box_overlaps(edges[:1], edges[1:])[0, 0] == 50 / 150


def test_boxes_that_touch_share_nothing_and_empty_ones_give_no_nan():
    found = box_overlaps([WHOLE, [3, 3, 3, 3]], [[10, 0, 20, 10], [3, 3, 3, 3]])
    assert found.tolist() == [[0, 0], [0, 0]]
    assert box_overlaps(np.empty((0, 4)), [WHOLE]).shape == (0, 1)


# --- Who is right ---


def test_half_is_not_enough():
    _, is_right, _ = match([([0, 0, 10, 5], 0.9)], [WHOLE])
    assert is_right.tolist() == [False]
    _, is_right, _ = match([([0, 0, 10, 5.1], 0.9)], [WHOLE])
    assert is_right.tolist() == [True]


def test_the_second_detection_of_an_object_is_wrong_however_well_it_fits():
    scores, is_right, num_objects = match([(WHOLE, 0.5), ([0, 0, 10, 8], 0.9)], [WHOLE])
    assert scores.tolist() == [0.9, 0.5] and is_right.tolist() == [True, False]
    assert num_objects == 1


def test_a_difficult_object_is_neither_hit_nor_miss():
    far = [50, 50, 60, 60]
    detections = [(WHOLE, 0.9), (WHOLE, 0.8), (far, 0.7)]
    scores, is_right, num_objects = match(detections, [WHOLE, far], [True, False])
    assert scores.tolist() == [0.7] and is_right.tolist() == [True] and num_objects == 1


def test_only_the_most_overlapped_object_is_looked_at():
    """It is found already; the other, overlapped by more than half as well, is not asked."""
    first, second = [0, 0, 10, 10], [0, 0, 10, 9]
    detections = [(first, 0.9), ([0, 0, 10, 9.8], 0.8)]
    _, is_right, _ = match(detections, [first, second])
    assert is_right.tolist() == [True, False]


def test_images_are_ranked_together():
    found = match_detections(
        [(np.array([WHOLE]), np.array([0.2])), (np.array([WHOLE, WHOLE]), np.array([0.9, 0.1]))],
        [(np.array([WHOLE]), np.array([False])), (np.empty((0, 4)), np.empty(0, bool))],
    )
    assert found[0].tolist() == [0.9, 0.2, 0.1]
    assert found[1].tolist() == [False, True, False]


# --- Average precision ---


def test_eleven_points_by_hand():
    """Right, wrong, right of 4: precision 1 up to recall .25, 2/3 up to .5, none above."""
    is_right = np.array([True, False, True])
    expected = (3 * 1 + 3 * (2 / 3)) / 11  # recalls 0, .1, .2; then .3, .4, .5
    assert average_precision_11_points(is_right, 4) == pytest.approx(expected)
    assert average_precision_area(is_right, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)


@pytest.mark.parametrize("average", [average_precision_11_points, average_precision_area])
def test_ends(average):
    assert average(np.array([True, True]), 2) == 1
    assert average(np.array([False]), 2) == 0
    assert average(np.empty(0, bool), 2) == 0
    assert np.isnan(average(np.array([False]), 0))


# --- All rules at once ---


def plain_voc(detections, objects):
    """Restates the challenge's evaluation with its own numbers: pixels from 1, both ends in."""
    ranked = sorted(
        (
            (-score, image, place, [box[0] + 1, box[1] + 1, box[2], box[3]])
            for image, (boxes, scores) in enumerate(detections)
            for place, (box, score) in enumerate(zip(boxes, scores, strict=True))
        ),
        key=lambda one: one[:3],
    )
    truth = [[[box[0] + 1, box[1] + 1, box[2], box[3]] for box in boxes] for boxes, _ in objects]
    seen, hits, misses = set(), [], []
    for _, image, _, (x1, y1, x2, y2) in ranked:
        best, which = -1.0, None
        for number, (a1, b1, a2, b2) in enumerate(truth[image]):
            width, height = min(x2, a2) - max(x1, a1) + 1, min(y2, b2) - max(y1, b1) + 1
            if width <= 0 or height <= 0:
                continue
            union = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
            overlap = width * height / (union - width * height)
            if overlap > best:
                best, which = overlap, number
        if best > 0.5 and objects[image][1][which]:
            continue
        is_hit = best > 0.5 and (image, which) not in seen
        if is_hit:
            seen.add((image, which))
        hits.append(is_hit)
        misses.append(not is_hit)
    num_objects = sum(not flag for _, flags in objects for flag in flags)
    total = 0.0
    for tenth in range(11):
        best = 0.0
        for last in range(1, len(hits) + 1):
            right = sum(hits[:last])
            if right / num_objects >= np.linspace(0, 1, 11)[tenth]:
                best = max(best, right / last)
        total += best / 11
    return total


@pytest.mark.parametrize("seed", range(5))
def test_drawn_images_score_as_the_plain_restatement_says(seed):
    generator = np.random.default_rng(seed)
    detections, objects = [], []
    for _ in range(12):
        corners = generator.integers(0, 40, (generator.integers(0, 4), 2))
        truth = np.hstack([corners, corners + generator.integers(5, 25, corners.shape)])
        near = np.repeat(truth, 2, axis=0) + generator.integers(-4, 5, (2 * len(truth), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        noise = generator.integers(0, 40, (2, 2))
        boxes = np.vstack([near, np.hstack([noise, noise + 12])]).astype(float)
        detections.append((boxes, generator.permutation(1000)[: len(boxes)] / 1000))
        objects.append((truth.astype(float), generator.random(len(truth)) < 0.2))
    _, is_right, num_objects = match_detections(detections, objects)
    found = average_precision_11_points(is_right, num_objects)
    assert 0.1 < found < 0.95
    assert found == pytest.approx(plain_voc(detections, objects))


def test_classes_are_scored_apart_and_those_without_objects_left_out():
    boxes = np.array([WHOLE, [20, 20, 30, 30], [0, 0, 10, 10]], float)
    detections = [(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1]))]
    objects = [(boxes[:2], np.array([0, 1]), np.zeros(2, bool))]
    found = score_detections(detections, objects, num_classes=3)
    assert found["num_objects"].tolist() == [1, 1, 0]
    assert found["average_precision_voc07"][:2].tolist() == [1, 1]
    assert np.isnan(found["average_precision_voc07"][2]) and found["map_voc07"] == 1
    wrong = [(boxes, np.array([0.7, 0.8, 0.9]), np.array([0, 1, 1]))]  # the duplicate comes first
    found = score_detections(wrong, objects, num_classes=3)
    assert found["average_precision_voc12"][1] == 0.5 and found["map_voc12"] == 0.75
    with pytest.raises(ValueError, match=r"must be 0 to 0\. Received: 0 to 1"):
        score_detections(detections, objects, num_classes=1)


# --- What is refused ---


def test_what_does_not_fit_is_one_line():
    with pytest.raises(ValueError, match="same images"):
        match_detections([], [(np.array([WHOLE]), np.array([False]))])
    with pytest.raises(ValueError, match=r"1 boxes with 2 scores"):
        match_detections(
            [(np.array([WHOLE]), np.array([0.1, 0.2]))], [(np.empty((0, 4)), np.empty(0, bool))]
        )
    with pytest.raises(ValueError, match="finite"):
        match([(WHOLE, float("nan"))], [WHOLE])
    with pytest.raises(ValueError, match=r"Boxes must be \[boxes, 4\]"):
        box_overlaps(np.zeros((2, 3)), [WHOLE])
