"""Small photographs with boxes, for tests of detection."""

import cv2
import numpy as np

from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs

COLOURS = ((220, 40, 30), (30, 60, 230))


def draw_photographs(folder, count=6, *, side=96, seed=0, landscape=False):
    """Writes photographs of red and blue squares on noise; the colour is the class."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    boxes, classes = [], []
    for number in range(count):
        height, width = (side, side + 32) if landscape or number % 2 else (side + 16, side)
        image = generator.integers(90, 150, (height, width, 3)).astype("uint8")
        drawn = []
        for kind in (number % 2, (number // 2) % 2):
            size = generator.integers(side // 4, side // 2)
            left, top = generator.integers(0, [width - size, height - size])
            image[top : top + size, left : left + size] = COLOURS[kind]
            drawn.append([left, top, left + size, top + size])
        boxes.append(np.array(drawn, "float32"))
        classes.append(np.array([number % 2, (number // 2) % 2], "int32"))
        cv2.imwrite(str(folder / f"{number:03d}.png"), image[..., ::-1])
    return BoxedPhotographs(
        manifest=scan_images(folder),
        boxes=tuple(boxes),
        classes=tuple(classes),
        difficult=tuple(np.zeros(len(one), bool) for one in boxes),
        class_names=("red", "blue"),
    )


def draw_proposals(photographs, *, seed=0, count=40):
    """Gives random boxes and shaken objects."""
    generator = np.random.default_rng(seed)
    proposals = []
    manifest = photographs.manifest
    for boxes, height, width in zip(
        photographs.boxes, manifest.heights, manifest.widths, strict=True
    ):
        limits = np.array([width, height, width, height])
        corners = generator.uniform(0, 1, (count, 2, 2)) * [width, height]
        anywhere = np.concatenate([corners.min(1), corners.max(1)], -1)
        shaken = np.repeat(boxes, 8, 0) + generator.normal(0, 3, (8 * len(boxes), 4))
        found = np.clip(np.concatenate([anywhere, shaken]), 0, limits)
        sides = found[:, 2:] - found[:, :2]
        proposals.append(found[(sides > 4).all(axis=1)].astype("float32"))
    return proposals
