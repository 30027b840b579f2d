import tarfile
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError, scan_images
from keras_ctxattr.data.voc import read_voc

ANNOTATION = """<annotation><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>dog</name><truncated>1</truncated><difficult>0</difficult><occluded>1</occluded>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>50</ymax></bndbox>
<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part>
</object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><ymax>20</ymax><xmax>30.5</xmax><xmin>11</xmin><ymin>20</ymin></bndbox></object>
</annotation>"""


def make_voc(root: Path, prefix: str = "VOCdevkit/VOC2007") -> Path:
    place = root / prefix
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "Annotations").mkdir()
    (place / "ImageSets" / "Main" / "trainval.txt").write_text("000007\n000002\n")
    (place / "ImageSets" / "Main" / "dog_trainval.txt").write_text("000007  1\n000002 -1\n")
    (place / "Annotations" / "000007.xml").write_text(ANNOTATION)
    empty = "<annotation><size><width>4</width><height>3</height></size></annotation>"
    (place / "Annotations" / "000002.xml").write_text(empty)
    return root


def pack_folder(root: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(root, arcname=".")
    return path


@pytest.mark.parametrize("prefix", ["VOCdevkit/VOC2007", "VOC2007", "."])
@pytest.mark.parametrize("is_packed", [False, True])
def test_boxes_are_pixel_edges_counted_from_zero(prefix: str, is_packed: bool, tmp_path) -> None:
    root = make_voc(tmp_path / "voc", prefix)
    images = read_voc(pack_folder(root, tmp_path / "voc.tar") if is_packed else root)
    before = "" if prefix == "." else prefix + "/"
    assert [image.key for image in images] == [
        f"{before}JPEGImages/000007.jpg",
        f"{before}JPEGImages/000002.jpg",
    ]
    first, second = images
    assert (first.height, first.width) == (50, 100)
    assert first.objects.boxes.dtype == np.float32
    # The dog fills the image; the cat is one row high: pixel 20 counted from 1.
    assert first.objects.boxes.tolist() == [[0, 0, 100, 50], [10, 19, 30.5, 20]]
    assert first.objects.classes == ("dog", "cat")
    assert first.objects.truncated.tolist() == [True, False]
    assert first.objects.difficult.tolist() == [False, True]
    assert first.objects.occluded.tolist() == [True, False]
    assert len(second.objects) == 0
    assert second.objects.boxes.shape == (0, 4)


def test_list_of_one_class_holds_the_images_that_show_it(tmp_path) -> None:
    images = read_voc(make_voc(tmp_path), "dog_trainval")
    assert [image.key[-10:] for image in images] == ["000007.jpg"]


def break_nothing(root: Path) -> Path:
    return root


def remove_annotation(root: Path) -> Path:
    (root / "VOCdevkit/VOC2007/Annotations/000002.xml").unlink()
    return root


def damage_annotation(root: Path) -> Path:
    path = root / "VOCdevkit/VOC2007/Annotations/000007.xml"
    path.write_text(path.read_text()[:300])
    return root


def forget_number(root: Path) -> Path:
    path = root / "VOCdevkit/VOC2007/Annotations/000007.xml"
    path.write_text(path.read_text().replace("<xmin>11</xmin>", ""))
    return root


def cut_archive(root: Path) -> Path:
    path = pack_folder(root, root.parent / "voc.tar")
    path.write_bytes(path.read_bytes()[:1300])
    return path


PROBLEMS = [
    (break_nothing, "val", "dog_trainval, trainval"),
    (lambda root: root / "VOCdevkit" / "VOC2007" / "Annotations", "trainval", "none"),
    (lambda root: root / "nowhere", "trainval", "exists"),
    (lambda root: root / "VOCdevkit/VOC2007/Annotations/000007.xml", "trainval", "tar archive"),
    (remove_annotation, "trainval", "000002.xml"),
    (damage_annotation, "trainval", "000007.xml"),
    (forget_number, "trainval", "000007.xml"),
    (cut_archive, "trainval", "must"),
]


@pytest.mark.parametrize(("spoil", "image_set", "told"), PROBLEMS)
def test_damaged_data_set_is_one_clear_line(spoil, image_set: str, told: str, tmp_path) -> None:
    source = spoil(make_voc(tmp_path / "voc"))
    with pytest.raises(CollectionError, match=told) as caught:
        read_voc(source, image_set)
    assert "\n" not in str(caught.value)
    assert "must" in str(caught.value)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "num_images", "num_objects", "num_classes"),
    [("voc2012_mini_trainval", 60, 152, 20), ("coco_voc20_trainval", 72, 341, 17)],
)
def test_sample_archives_hold_what_their_page_says(
    data_folder, tmp_path, name: str, num_images: int, num_objects: int, num_classes: int
) -> None:
    path = data_folder / f"{name}.tar"
    images = read_voc(path)
    assert len(images) == num_images
    assert sum(len(image.objects) for image in images) == num_objects
    assert len({name for image in images for name in image.objects.classes}) == num_classes
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    for packed, unpacked in zip(images, read_voc(tmp_path), strict=True):
        assert packed.key == unpacked.key
        np.testing.assert_array_equal(packed.objects.boxes, unpacked.objects.boxes)
    manifest = scan_images(path).usable()
    sizes = dict(
        zip(manifest.keys, zip(manifest.heights, manifest.widths, strict=True), strict=True)
    )
    for image in images:
        assert sizes[image.key] == (image.height, image.width)
        left, top, right, bottom = image.objects.boxes.T
        assert (left >= 0).all()
        assert (top >= 0).all()
        assert (right <= image.width).all()
        assert (bottom <= image.height).all()
        assert (right > left).all()
        assert (bottom > top).all()


def test_archive_may_be_compressed(tmp_path) -> None:
    root = make_voc(tmp_path / "voc")
    with tarfile.open(tmp_path / "voc.tar.gz", "w:gz") as archive:
        archive.add(root, arcname="voc")
    assert read_voc(tmp_path / "voc.tar.gz")[0].key == "voc/VOCdevkit/VOC2007/JPEGImages/000007.jpg"


def test_archive_without_members_has_no_list(tmp_path) -> None:
    with tarfile.open(tmp_path / "empty.tar", mode="w"):
        pass
    with pytest.raises(CollectionError, match="none"):
        read_voc(tmp_path / "empty.tar")
