"""Boxes of PASCAL VOC: image sets and annotations, from a folder or straight from a tar archive."""

import dataclasses
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np

from keras_ctxattr.data.manifest.table import CollectionError

IMAGE_SETS = "ImageSets/Main"
MAX_DEPTH = 3  # folders between the root and ImageSets: none, VOC2012, VOCdevkit/VOC2012


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VocObjects:
    """The annotated objects of one image.

    Attributes:
        boxes: Float32 `[objects, 4]`, (left, top, right, bottom) of the pixels' edges, counted from
            0: a box that covers the whole image is (0, 0, width, height). VOC's own numbers are
            pixels counted from 1, both ends included, so left and top are one less than printed and
            right and bottom are as printed.
        classes: The name of each object's class.
        difficult: Bool `[objects]`, to be left out when results are counted.
        truncated: Bool `[objects]`, the object goes on outside the box.
        occluded: Bool `[objects]`, something hides a part of it; False where the file does not say.
    """

    boxes: np.ndarray
    classes: tuple[str, ...]
    difficult: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VocImage:
    """One image of an image set.

    Attributes:
        key: Its path relative to the root or in the archive: the key that `scan_images` of the same
        source gives.
        height: Pixels.
        width: Pixels.
        objects: What is annotated in it.
    """

    key: str
    height: int
    width: int
    objects: VocObjects


def read_voc(root: str | PathLike[str], image_set: str = "trainval") -> tuple[VocImage, ...]:
    """Reads the annotations of one image set.

    Args:
        root: A folder or tar archive with `ImageSets`, `Annotations` and `JPEGImages`, or with a
            folder or two above them (`VOCdevkit/VOC2007`); of several years all are read.
        image_set: The name of a list in `ImageSets/Main`. Of a list for one class ("car_trainval"),
            the images marked -1, which do not show the class, are left out.

    Returns:
        The images in the order of the list.

    Raises:
        CollectionError: If there is no such place or list, or an annotation is missing or damaged.
    """
    path = Path(root)
    if path.is_dir():
        places = [
            place for depth in range(MAX_DEPTH) for place in path.glob("*/" * depth + IMAGE_SETS)
        ]
        names = [
            found.relative_to(path).as_posix()
            for place in sorted(places)
            for found in sorted(place.glob("*.txt"))
        ]
        return _read_images(str(root), names, image_set, lambda name: _read_file(path / name))
    try:
        with tarfile.open(path) as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            names = sorted(name for name in members if f"/{IMAGE_SETS}/" in f"/{name}")

            def read(name: str) -> bytes | None:
                stream = archive.extractfile(members[name]) if name in members else None
                return stream.read() if stream is not None else None

            return _read_images(str(root), names, image_set, read)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise CollectionError(
            "A VOC data set must be a folder or a whole tar archive that exists. "
            f"Received: {root}: {str(getattr(error, 'strerror', None) or error).splitlines()[0]}"
        ) from error


def _read_file(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_images(
    root: str, names: list[str], image_set: str, read: Callable[[str], bytes | None]
) -> tuple[VocImage, ...]:
    lists = [name for name in names if PurePosixPath(name).name == f"{image_set}.txt"]
    if not lists:
        known = sorted({PurePosixPath(name).stem for name in names})
        raise CollectionError(
            f"A VOC data set must have {IMAGE_SETS}/{image_set}.txt. "
            f"Received: {root} with the lists: {', '.join(known) or 'none'}"
        )
    images = []
    for name in lists:
        folder = PurePosixPath(name).parents[2].as_posix()
        prefix = "" if folder == "." else folder + "/"
        for stem in _parse_list((read(name) or b"").decode()):
            annotation = f"{prefix}Annotations/{stem}.xml"
            content = read(annotation)
            if content is None:
                raise CollectionError(
                    "Every image of a VOC list must have an annotation; complete the data set or "
                    f"shorten the list. Received: {root} without {annotation}"
                )
            images.append(_parse_annotation(f"{prefix}JPEGImages/{stem}.jpg", annotation, content))
    return tuple(images)


def _parse_list(text: str) -> Iterable[str]:
    for line in text.splitlines():
        words = line.split()
        if words and words[1:2] != ["-1"]:
            yield words[0]


def _parse_annotation(key: str, name: str, content: bytes) -> VocImage:
    try:
        tree = ElementTree.fromstring(content)
        return VocImage(
            key=key,
            height=int(tree.findtext("size/height", "")),
            width=int(tree.findtext("size/width", "")),
            objects=_parse_objects(tree.findall("object")),
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise CollectionError(
            "A VOC annotation must be XML with a size, and with a name and four box numbers for "
            f"each object. Received: {name}: {error}"
        ) from error


def _parse_objects(elements: list[ElementTree.Element]) -> VocObjects:
    boxes = np.zeros([len(elements), 4], np.float32)
    for row, element in enumerate(elements):
        sides = [
            float(element.findtext(f"bndbox/{side}", ""))
            for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        boxes[row] = sides[0] - 1, sides[1] - 1, sides[2], sides[3]
    flags = {
        name: np.array([element.findtext(name, "0").strip() == "1" for element in elements], bool)
        for name in ("difficult", "truncated", "occluded")
    }
    classes = tuple(element.findtext("name", "").strip() for element in elements)
    if not all(classes):
        raise ValueError("an object without a name")
    return VocObjects(boxes=boxes, classes=classes, **flags)
