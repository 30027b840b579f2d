"""Photographs with boxes: where they lie, what is in them, and which are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.data.coco import read_coco
from keras_ctxattr.data.manifest import CollectionError, Manifest, label_sources, scan_images
from keras_ctxattr.data.manifest.scan import Progress
from keras_ctxattr.data.voc import VocImage, read_voc

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""In the order of PASCAL VOC."""

_SLACK = 1  # pixels that a box may reach out of its image, as some of VOC do


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BoxedPhotographs:
    """Photographs and the objects in them; one row a photograph.

    Attributes:
        manifest: Where they lie; usable rows only.
        boxes: For each, float32 `[objects, 4]`: (left, top, right, bottom) edges in pixels of the
            upright image, counted from 0.
        classes: For each, int32 `[objects]`, places in `class_names`.
        difficult: For each, bool `[objects]`: not to be counted when results are.
        class_names: What is looked for.
    """

    manifest: Manifest
    boxes: tuple[np.ndarray, ...]
    classes: tuple[np.ndarray, ...]
    difficult: tuple[np.ndarray, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def objects(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Lists (boxes, classes, difficult) of each, as `score_detections` takes them."""
        return list(zip(self.boxes, self.classes, self.difficult, strict=True))

    def select(self, rows: Sequence[int] | np.ndarray) -> BoxedPhotographs:
        """Gives some rows only, by number, in the order given."""
        chosen = np.asarray(rows, np.int64)
        return dataclasses.replace(
            self,
            manifest=self.manifest.select(chosen),
            **{
                name: tuple(getattr(self, name)[row] for row in chosen)
                for name in ("boxes", "classes", "difficult")
            },
        )

    def split(self, held_out: float, *, seed: int = 0) -> tuple[BoxedPhotographs, BoxedPhotographs]:
        """Gives (training, held-out) photographs, see `Manifest.split`."""
        numbered = dataclasses.replace(self.manifest, image_ids=np.arange(len(self)))
        training, other = numbered.split(held_out, seed=seed)
        return self.select(training.image_ids), self.select(other.image_ids)


def read_photographs(
    sources: str | Path | Sequence[str | Path],
    image_set: str = "trainval",
    *,
    class_names: Sequence[str] = VOC_CLASSES,
    progress: Progress | None = None,
) -> BoxedPhotographs:
    """Reads photographs and their boxes, and checks every image once.

    Boxes are those of the upright image: annotations of one that was turned since, or whose boxes
    reach out of it, are refused. A size that is merely misprinted is the file's.

    Args:
        sources: One or several: folders or tar archives in the layout of VOC (`VOCdevkit`,
            `VOCdevkit/VOC2007`), or annotations of COCO, `annotations/instances_val2017.json` with
            the folder `val2017` beside `annotations`.
        image_set: Of VOC: the name of a list in `ImageSets/Main`.
        class_names: What is looked for. Objects of other classes are left out.
        progress: As `scan_images` takes it.

    Returns:
        All photographs of the lists, source by source, those without objects as well.

    Raises:
        CollectionError: If there is no such data set or list, an image of it is missing, cannot be
            decoded or has another size than is stated, or there is no object of the classes.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    annotated = [_read_source(Path(source), image_set) for source in given]
    folders = [folder for folder, _ in annotated]
    manifest = scan_images(folders, keep_duplicates=True, progress=progress)
    rows = {key: row for row, key in enumerate(manifest.keys)}
    labels = label_sources([str(folder) for folder in folders])
    listed = [
        (f"{label}/{image.key}" if label else image.key, image)
        for label, (_, images) in zip(labels, annotated, strict=True)
        for image in images
    ]
    chosen = [_find_row(manifest, rows, key, image) for key, image in listed]
    photographs = _gather(
        manifest.select(np.array(chosen, np.int64)),
        [image for _, image in listed],
        tuple(class_names),
    )
    if not any(map(len, photographs.boxes)):
        raise CollectionError(
            "At least one object must be of a class that is looked for: "
            f"{', '.join(class_names)}. Received: {', '.join(map(str, given))}, {image_set}"
        )
    return photographs


def _read_source(source: Path, image_set: str) -> tuple[Path, tuple[VocImage, ...]]:
    """Gives where the images lie, and what the annotations say of them."""
    if source.suffix != ".json":
        return source, read_voc(source, image_set)
    folder = source.parent.parent / source.stem.removeprefix("instances_")
    if source.is_file() and not folder.is_dir():
        raise CollectionError(
            "The images of COCO annotations must lie in the folder that is named like them, beside "
            f"the annotations' own. Received: {source} without {folder}"
        )
    return folder, read_coco(source)


def _find_row(manifest: Manifest, rows: dict[str, int], key: str, image: VocImage) -> int:
    """Gives the row of an annotated image, which must be whole and of the size that is stated."""
    row = rows.get(key)
    skip = "it is missing" if row is None else manifest.skips[row]
    if row is None or skip:
        raise CollectionError(
            "Every annotated image must be there and whole; restore it, or take it off the list. "
            f"Received: {key}: {skip}"
        )
    height, width = int(manifest.heights[row]), int(manifest.widths[row])
    if not _fits(image, height, width):
        turned = manifest.orientations[row] > 1
        raise CollectionError(
            "Annotations must be of the upright image, and boxes lie in it; correct them, or take "
            f"the image off the list. Received: {key}: {image.height}x{image.width} (height x "
            f"width) is stated, it has {height}x{width}"
            f"{' once its EXIF orientation is applied' if turned else ''}"
        )
    return row


def _fits(image: VocImage, height: int, width: int) -> bool:
    """Tells whether annotations may be of an image; VOC misprints a size now and then."""
    stated = (image.height, image.width)
    if stated == (width, height) != (height, width):
        return False
    ends = image.objects.boxes[:, 2:]
    return bool((ends <= [width + _SLACK, height + _SLACK]).all())


def _gather(
    manifest: Manifest, images: Sequence[VocImage], class_names: tuple[str, ...]
) -> BoxedPhotographs:
    """Puts the objects of these classes beside the photographs' rows."""
    numbers = {name: number for number, name in enumerate(class_names)}
    boxes, classes, difficult = [], [], []
    for image in images:
        known = [row for row, name in enumerate(image.objects.classes) if name in numbers]
        boxes.append(image.objects.boxes[known])
        names = [image.objects.classes[row] for row in known]
        classes.append(np.array([numbers[name] for name in names], np.int32))
        difficult.append(image.objects.difficult[known])
    return BoxedPhotographs(
        manifest=manifest,
        boxes=tuple(boxes),
        classes=tuple(classes),
        difficult=tuple(difficult),
        class_names=class_names,
    )
