"""Photographs with the contours that people drew in them, in memory, as training takes them."""

import dataclasses
from collections.abc import Sequence
from os import PathLike
from pathlib import PurePath

import cv2
import numpy as np

from keras_ctxattr.data.bsds import BsdsImage, read_bsds
from keras_ctxattr.data.images import load_images
from keras_ctxattr.data.manifest import CollectionError, scan_images

CONTOUR, NONE, UNSURE = 1, 0, -1
"""What a pixel is an example of."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContourImages:
    """Photographs and what people drew in them.

    Attributes:
        names: their numbers in the data set.
        pixels: for each uint8 `[height, width, 3]`, RGB.
        boundaries: for each bool `[annotators, height, width]`.
    """

    names: tuple[str, ...]
    pixels: tuple[np.ndarray, ...]
    boundaries: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_contour_images(
    source: str | PathLike[str],
    splits: str | Sequence[str] | None = None,
    photographs: str | PathLike[str] | None = None,
) -> ContourImages:
    """Reads photographs and ground truth of BSDS500.

    Args:
        source: as for `read_bsds`, with the photographs unless they are elsewhere.
        splits: which parts; None for all that are there.
        photographs: folder or archive of photographs named as their ground truth is; None where
            they are in `source`.

    Raises:
        CollectionError: if something is missing or damaged, a photograph has another size than its
            ground truth, or nobody drew a contour in it.
    """
    drawn = list(read_bsds(source, splits))
    manifest = scan_images(str(source if photographs is None else photographs)).usable()
    if photographs is None:
        rows = {key: row for row, key in enumerate(manifest.keys)}
        wanted = [image.key for image in drawn]
    else:
        wanted = [image.name for image in drawn]
        rows = {}
        for row, key in enumerate(manifest.keys):
            name = PurePath(key).stem
            if name in rows and name in wanted:
                raise CollectionError(
                    "There must be one photograph of a name. "
                    f"Received: {photographs} with {manifest.keys[rows[name]]} and {key}"
                )
            rows[name] = row
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise CollectionError(
            "There must be a photograph of every ground truth, which can be decoded. Received: "
            f"{photographs or source} without {missing[0]} ({len(missing)} of {len(drawn)} missing)"
        )
    chosen = manifest.select(np.array([rows[name] for name in wanted]))
    pixels = tuple(one["image"].numpy() for one in load_images(chosen))
    for image, photograph in zip(drawn, pixels, strict=True):
        check_truth(image, photograph.shape[:2], image.key)
    return ContourImages(
        names=tuple(image.name for image in drawn),
        pixels=pixels,
        boundaries=tuple(image.boundaries for image in drawn),
    )


def check_truth(image: BsdsImage, size: tuple[int, ...], received: object) -> None:
    """Checks that there are contours in a ground truth and that it has a size.

    Args:
        image: the ground truth.
        size: height and width of the photograph or map.
        received: what has that size, for the message.

    Raises:
        CollectionError: if not.
    """
    if size != image.boundaries.shape[1:]:
        height, width = image.boundaries.shape[1:]
        raise CollectionError(
            "A photograph and its contour map must have the size of their ground truth, "
            f"{height}x{width} (height x width) for {image.name}. "
            f"Received: {received} of {'x'.join(map(str, size))}"
        )
    if not image.boundaries.any():
        raise CollectionError(
            "Somebody must have drawn contours in every image of the ground truth; leave out those "
            f"without. Received: {image.name}: {len(image.boundaries)} empty maps"
        )


def label_pixels(boundaries: np.ndarray, min_distance: float = 2.0) -> np.ndarray:
    """Tells what each pixel is an example of.

    Args:
        boundaries: bool `[annotators, height, width]`.
        min_distance: pixels from every annotator's contours from which a pixel is none.

    Returns:
        int8 `[height, width]`: `CONTOUR` on anybody's contour, `NONE` away from all, else `UNSURE`.
    """
    is_contour = boundaries.any(axis=0)
    elsewhere = np.ascontiguousarray(~is_contour, np.uint8)
    distances = cv2.distanceTransform(elsewhere, cv2.DIST_L2, 5)
    labels = np.where(distances >= min_distance, NONE, UNSURE)
    return np.where(is_contour, CONTOUR, labels).astype(np.int8)
