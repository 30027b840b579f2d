"""Photographs with boxes as a development kit of VOC, for tests of commands."""

import shutil
from pathlib import Path

from tests.tasks.detection.test_photographs import annotate

NAMES = ("car", "person")  # classes of VOC in place of red and blue


def write_devkit(root: Path, photographs, *, image_set: str = "trainval") -> Path:
    """Writes `root/VOCdevkit/VOC2007` with the photographs, and gives `root/VOCdevkit`."""
    place = root / "VOCdevkit" / "VOC2007"
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    manifest = photographs.manifest
    stems = []
    for path, height, width, (boxes, classes, difficult) in zip(
        manifest.paths, manifest.heights, manifest.widths, photographs.objects, strict=True
    ):
        stems.append(Path(path).stem)
        objects = [
            (NAMES[kind], int(hard), (int(box[0]) + 1, int(box[1]) + 1, int(box[2]), int(box[3])))
            for box, kind, hard in zip(boxes, classes, difficult, strict=True)
        ]
        (place / f"Annotations/{stems[-1]}.xml").write_text(annotate(width, height, *objects))
        # What the suffix says does not matter to who decodes.
        shutil.copy(path, place / f"JPEGImages/{stems[-1]}.jpg")
    (place / f"ImageSets/Main/{image_set}.txt").write_text("".join(f"{one}\n" for one in stems))
    return root / "VOCdevkit"
