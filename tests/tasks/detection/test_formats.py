"""Detections as files: VOC's lines by hand, COCO's read by its own program."""

import json

import numpy as np
import pytest

from keras_ctxattr.tasks.detection.formats import (
    Detections,
    write_coco_results,
    write_voc_results,
)

FOUND = [
    Detections(boxes=[[0, 0, 10, 20], [4, 5, 30, 40]], scores=[0.75, 0.5], classes=[1, 0]),
    Detections(boxes=np.empty((0, 4)), scores=[], classes=[]),
]


def test_voc_counts_pixels_from_one_with_both_ends(tmp_path):
    write_voc_results(tmp_path / "results", FOUND, ["000001", "000002"], ["cat", "dog"])
    files = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert files == {
        "comp4_det_test_cat.txt": "000001 0.500000 5.0 6.0 30.0 40.0\n",
        "comp4_det_test_dog.txt": "000001 0.750000 1.0 1.0 10.0 20.0\n",
    }


def test_cocos_own_program_reads_them_and_finds_every_object(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    sizes = {"height": 60, "width": 60}
    truth = {
        "images": [{"id": 5, **sizes}, {"id": 6, **sizes}],
        "categories": [{"id": 18, "name": "cat"}, {"id": 44, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 44, "bbox": [0, 0, 10, 20], "area": 200},
            {"id": 2, "image_id": 5, "category_id": 18, "bbox": [4, 5, 26, 35], "area": 910},
        ],
    }
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    write_coco_results(tmp_path / "results.json", FOUND, [5, 6], [18, 44])
    expected = coco.COCO(str(tmp_path / "truth.json"))
    scored = evaluation.COCOeval(expected, expected.loadRes(str(tmp_path / "results.json")), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1.0)


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"of every image\. Received: 2 for 1"):
        write_voc_results(tmp_path / "results", FOUND, ["000001"], ["cat", "dog"])
    with pytest.raises(ValueError, match=r"Classes must be 0 to 0\. Received: 1"):
        write_coco_results(tmp_path / "results.json", FOUND, [5, 6], [18])
    with pytest.raises(ValueError, match=r"`boxes` must be \[1, 4\]. Received: \[1, 3\]"):
        Detections(boxes=[[0, 0, 1]], scores=[1], classes=[0])
    assert not list(tmp_path.iterdir())
