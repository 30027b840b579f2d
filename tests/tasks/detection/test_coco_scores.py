"""COCO's own figures for hand-made detections."""

import numpy as np
import pytest

from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.tasks.detection.coco_scores import NAMES, score_coco
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from tests.data.encoding import encode, make_pixels

pytest.importorskip("pycocotools", reason="the extra `detection` is not installed")


@pytest.fixture
def photographs(tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encode(make_pixels(200, 200, number), "PNG"))
    boxes = (np.array([[0, 0, 100, 100], [120, 120, 140, 140]]), np.array([[10, 10, 60, 60]]))
    return BoxedPhotographs(
        manifest=scan_images(tmp_path),
        boxes=tuple(one.astype("float32") for one in boxes),
        classes=(np.array([0, 1], "int32"), np.array([0], "int32")),
        difficult=(np.zeros(2, bool), np.zeros(1, bool)),
        class_names=("a", "b"),
    )


def as_detections(photographs, shift=0.0):
    return [
        Detections(boxes=boxes + shift, scores=np.full(len(boxes), 0.9), classes=classes)
        for boxes, classes in zip(photographs.boxes, photographs.classes, strict=True)
    ]


def test_the_objects_themselves_are_perfect(photographs):
    scores = score_coco(as_detections(photographs), photographs)
    assert set(scores) == set(NAMES)
    assert scores["coco_ap"] == pytest.approx(1)
    assert scores["coco_ap_small"] == pytest.approx(1)  # of 20 pixels a side


def test_nothing_found_is_zero(photographs):
    nothing = Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), classes=np.zeros(0))
    assert score_coco([nothing, nothing], photographs)["coco_ap"] == 0


def test_loose_boxes_count_at_loose_overlaps_alone(photographs):
    """Shifted by 5: overlaps are .82, .68 of the two of class a and .39 of the one of class b."""
    scores = score_coco(as_detections(photographs, 5.0), photographs)
    assert scores["coco_ap50"] == pytest.approx(0.5)
    assert scores["coco_ap75"] == pytest.approx((51 / 101) / 2, abs=1e-3)  # half of class a's


def test_what_lies_in_a_difficult_object_counts_for_nothing(photographs):
    hard = BoxedPhotographs(
        **{**vars(photographs), "difficult": (np.array([False, True]), np.zeros(1, bool))}
    )
    scores = score_coco(as_detections(hard), hard)
    assert scores["coco_ap"] == pytest.approx(1)


def test_detections_of_every_photograph_are_needed(photographs):
    with pytest.raises(ValueError, match="detections of every photograph"):
        score_coco([], photographs)
