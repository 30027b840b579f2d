"""Photographs with boxes, from data sets of two images written by hand."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.tasks.detection.photographs import VOC_CLASSES, read_photographs
from tests.data.encoding import encode, make_exif, make_pixels

PLACE = "VOCdevkit/VOC2007"


def annotate(width: int, height: int, *objects: tuple[str, int, tuple[int, int, int, int]]) -> str:
    """Gives an annotation: (class, difficult, (xmin, ymin, xmax, ymax)), pixels from 1."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    listed = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>"
        for name, difficult, box in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{listed}</annotation>"


OBJECTS = {
    "000007": [
        ("dog", 0, (1, 1, 40, 24)),
        ("unicorn", 0, (2, 2, 3, 3)),
        ("cat", 1, (11, 20, 30, 20)),
    ],
    "000002": [],
    "000009": [("person", 0, (5, 6, 7, 8))],
}


def write_voc(root: Path, seed: int = 0) -> Path:
    """Writes three images of 24 x 40 pixels, listed as 7, 2, 9."""
    place = root / PLACE
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (place / folder).mkdir(parents=True)
    (place / "ImageSets/Main/trainval.txt").write_text("".join(f"{one}\n" for one in OBJECTS))
    for number, (name, objects) in enumerate(OBJECTS.items()):
        (place / f"Annotations/{name}.xml").write_text(annotate(40, 24, *objects))
        image = encode(make_pixels(24, 40, seed + number), "JPEG", quality=95)
        (place / f"JPEGImages/{name}.jpg").write_bytes(image)
    return root


def write_coco(root: Path, **changes: object) -> Path:
    """Writes two images, the second without objects, and gives the annotations."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, name in enumerate(("b.jpg", "a.jpg")):
        image = encode(make_pixels(24, 40, 50 + number), "JPEG")
        (root / "val2017" / name).write_bytes(image)
    content = {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 24, "width": 40},
            {"id": 12, "file_name": "a.jpg", "height": 24, "width": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "kite"}],
        "annotations": [
            {"image_id": 9, "category_id": 18, "bbox": [10, 5, 20, 10.5], "iscrowd": 1},
            {"image_id": 9, "category_id": 5, "bbox": [0, 0, 4, 4], "iscrowd": 0},
        ],
    }
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


def names_of(photographs) -> list[str]:
    return [Path(key).stem for key in photographs.manifest.keys]


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["VOCdevkit", "VOC2007", "tar"])
def test_boxes_are_edges_from_0_and_rows_are_in_the_order_of_the_list(kind, tmp_path) -> None:
    root = write_voc(tmp_path / "voc")
    source = {"VOCdevkit": root / "VOCdevkit", "VOC2007": root / PLACE}.get(kind)
    if source is None:
        source = tmp_path / "voc.tar"
        with tarfile.open(source, "w") as archive:
            archive.add(root, arcname=".")
    photographs = read_photographs([source])
    assert len(photographs) == 3 and names_of(photographs) == ["000007", "000002", "000009"]
    boxes, classes, difficult = photographs.objects[0]
    # The dog fills the image; the cat is one row high; no class is called unicorn.
    assert boxes.dtype == np.float32 and boxes.tolist() == [[0, 0, 40, 24], [10, 19, 30, 20]]
    assert classes.dtype == np.int32
    assert [VOC_CLASSES[one] for one in classes] == ["dog", "cat"]
    assert difficult.dtype == bool and difficult.tolist() == [False, True]
    assert photographs.boxes[1].shape == (0, 4) and photographs.boxes[1].dtype == np.float32
    assert len(photographs.classes[1]) == len(photographs.difficult[1]) == 0
    assert photographs.boxes[2].tolist() == [[4, 5, 7, 8]]
    assert (photographs.manifest.skips == "").all()
    assert photographs.manifest.heights.tolist() == [24] * 3


def test_annotations_of_coco_lie_beside_their_images(tmp_path) -> None:
    photographs = read_photographs(str(write_coco(tmp_path)), class_names=("kite", "dog"))
    assert names_of(photographs) == ["b", "a"]
    assert photographs.class_names == ("kite", "dog")
    assert photographs.boxes[0].tolist() == [[10, 5, 30, 15.5], [0, 0, 4, 4]]
    assert photographs.classes[0].tolist() == [1, 0]
    assert photographs.difficult[0].tolist() == [True, False]
    assert photographs.boxes[1].shape == (0, 4)


def test_sources_follow_each_other_each_with_its_own_images(tmp_path) -> None:
    one, other = (write_voc(tmp_path / name, seed) for seed, name in enumerate(("one", "other")))
    coco = write_coco(tmp_path / "coco")
    photographs = read_photographs([other / "VOCdevkit", coco, one / "VOCdevkit"])
    assert names_of(photographs) == ["000007", "000002", "000009", "b", "a", *OBJECTS]
    paths = [Path(path).relative_to(tmp_path).parts[0] for path in photographs.manifest.paths]
    assert paths == ["other"] * 3 + ["coco"] * 2 + ["one"] * 3
    assert [len(boxes) for boxes in photographs.boxes] == [2, 0, 1, 1, 0, 2, 0, 1]


@pytest.mark.data
def test_sample_archives_are_read(data_folder) -> None:
    sources = [data_folder / f"{name}.tar" for name in ("voc2012_mini_trainval",)]
    photographs = read_photographs(sources)
    assert len(photographs) == 60
    assert sum(map(len, photographs.boxes)) == 152
    for boxes, height, width in zip(
        photographs.boxes,
        photographs.manifest.heights,
        photographs.manifest.widths,
        strict=True,
    ):
        assert (boxes[:, 2:] <= (width, height)).all() and (boxes[:, :2] < boxes[:, 2:]).all()


# --- selections -----------------------------------------------------------------------------------


def test_selection_keeps_the_order_given_and_rows_together(tmp_path) -> None:
    photographs = read_photographs([write_voc(tmp_path)])
    for rows in ([2, 0], np.array([2, 0])):
        chosen = photographs.select(rows)
        assert names_of(chosen) == ["000009", "000007"]
        assert [len(boxes) for boxes in chosen.boxes] == [1, 2]
        assert [len(classes) for classes in chosen.classes] == [1, 2]
        assert chosen.difficult[1].tolist() == [False, True]
        assert chosen.class_names == VOC_CLASSES
    assert len(photographs.select([])) == 0
    assert len(photographs) == 3


def test_split_loses_nothing_and_keeps_copies_together(tmp_path) -> None:
    # Two years with the same images, and an image that is listed twice: with other boxes, as
    # annotations in parts have it.
    one, other = write_voc(tmp_path / "one"), write_voc(tmp_path / "other")
    images = [{"id": number, "file_name": "b.jpg", "height": 24, "width": 40} for number in (9, 10)]
    coco = write_coco(tmp_path / "coco", images=images)
    photographs = read_photographs([one, other, coco])
    assert len(photographs) == 8
    for seed in range(4):
        parts = photographs.split(0.5, seed=seed)
        assert sum(map(len, parts)) == 8 and all(len(part) for part in parts)
        digests = [set(part.manifest.digests) for part in parts]
        assert not digests[0] & digests[1]
        counts = sorted(len(boxes) for part in parts for boxes in part.boxes)
        assert counts == sorted(len(boxes) for boxes in photographs.boxes)
        for part in parts:  # every photograph has its own objects still
            for name, boxes in zip(names_of(part), part.boxes, strict=True):
                assert name == "b" or len(boxes) == {"000007": 2, "000002": 0, "000009": 1}[name]
        again = photographs.split(0.5, seed=seed)
        assert [names_of(part) for part in again] == [names_of(part) for part in parts]


# --- what cannot be used --------------------------------------------------------------------------


def refusal(sources, *arguments, **options) -> str:
    with pytest.raises(CollectionError) as caught:
        read_photographs(sources, *arguments, **options)
    message = str(caught.value)
    assert "must" in message and "\n" not in message
    return message


def test_missing_and_damaged_images_are_named(tmp_path) -> None:
    root = write_voc(tmp_path)
    image = root / PLACE / "JPEGImages/000002.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert "000002.jpg: unreadable" in refusal([root])
    image.unlink()
    assert "000002.jpg: it is missing" in refusal([root])


def test_data_sets_that_are_not_there_are_named(tmp_path) -> None:
    root, coco = write_voc(tmp_path / "voc"), write_coco(tmp_path / "coco")
    assert "trainval" in refusal([root], "val")
    assert "nowhere" in refusal([root, tmp_path / "nowhere"])
    shutil.rmtree(coco.parents[1] / "val2017")
    assert "without" in refusal([coco]) and "val2017" in refusal([coco])
    assert "a file that exists" in refusal([tmp_path / "coco" / "annotations" / "none.json"])
    assert "at least one collection" in refusal([])


def test_at_least_one_object_is_of_the_classes(tmp_path) -> None:
    message = refusal([write_voc(tmp_path)], class_names=("boat", "kite"))
    assert "boat, kite" in message and str(tmp_path) in message


def turn(root: Path, orientation: int, pixels: np.ndarray) -> None:
    image = encode(pixels, "JPEG", exif=make_exif(orientation))
    (root / PLACE / "JPEGImages/000007.jpg").write_bytes(image)


def test_annotations_of_the_stored_pixels_of_a_turned_file_are_refused(tmp_path) -> None:
    root = write_voc(tmp_path)
    turn(root, 6, make_pixels(24, 40))  # upright, it is 40 x 24
    message = refusal([root])
    assert "000007.jpg: 24x40 (height x width) is stated, it has 40x24 once its EXIF" in message


def test_annotations_of_the_upright_image_of_a_turned_file_are_taken(tmp_path) -> None:
    root = write_voc(tmp_path)
    turn(root, 6, make_pixels(40, 24))
    photographs = read_photographs([root])
    assert photographs.manifest.orientations[0] == 6
    assert (photographs.manifest.heights[0], photographs.manifest.widths[0]) == (24, 40)
    assert photographs.boxes[0][0].tolist() == [0, 0, 40, 24]


def test_annotations_of_another_image_are_refused_and_misprinted_sizes_are_not(tmp_path) -> None:
    root = write_voc(tmp_path)
    path = root / PLACE / "Annotations/000009.xml"
    path.write_text(annotate(80, 48, ("person", 0, (5, 6, 70, 20))))
    message = refusal([root])
    assert "000009.jpg: 48x80" in message and message.endswith("it has 24x40")
    for width, height in ((80, 48), (0, 0)):  # every box lies in the image all the same
        path.write_text(annotate(width, height, *OBJECTS["000009"]))
        assert len(read_photographs([root])) == 3
