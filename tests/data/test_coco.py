"""COCO annotations become the objects of images, box by box."""

import json

import numpy as np
import pytest

from keras_ctxattr.data.coco import read_coco
from keras_ctxattr.data.manifest import CollectionError

CONTENT = {
    "images": [
        {"id": 9, "file_name": "b.jpg", "height": 40, "width": 60},
        {"id": 3, "file_name": "a.jpg", "height": 30, "width": 50},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"image_id": 9, "category_id": 1, "bbox": [10, 5, 20, 30.5], "iscrowd": 0},
        {"image_id": 9, "category_id": 18, "bbox": [0, 0, 60, 40], "iscrowd": 1},
    ],
}


def write(path, **changes):
    path.write_text(json.dumps({**CONTENT, **changes}))
    return path


def test_boxes_are_edges_and_crowds_are_difficult(tmp_path):
    empty, full = read_coco(write(tmp_path / "instances.json"), folder="val2017/")
    assert (empty.key, empty.height, empty.width, len(empty.objects)) == (
        "val2017/a.jpg",
        30,
        50,
        0,
    )
    assert empty.objects.boxes.shape == (0, 4)
    assert full.key == "val2017/b.jpg"
    np.testing.assert_array_equal(full.objects.boxes, [[10, 5, 30, 35.5], [0, 0, 60, 40]])
    assert full.objects.classes == ("person", "dog")
    assert full.objects.difficult.tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "no 4"),
        ({"annotations": [{"image_id": 9, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "no 2"),
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1]}]}, "reshape"),
        ({"images": [{"id": 9}]}, "no 'file_name'"),
        ({"categories": None}, "NoneType"),
    ],
)
def test_what_is_missing_is_one_line(tmp_path, changes, message):
    with pytest.raises(CollectionError, match=message) as error:
        read_coco(write(tmp_path / "instances.json", **changes))
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_one_line(tmp_path):
    with pytest.raises(CollectionError, match="must be a file that exists"):
        read_coco(tmp_path / "instances.json")
    (tmp_path / "words.json").write_text("words")
    with pytest.raises(CollectionError, match="must be JSON"):
        read_coco(tmp_path / "words.json")
