"""Contour maps in a folder, beside the ground truth of their images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_ctxattr.data.bsds import BsdsImage, read_bsds
from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.tasks.contours.formats import read_contour_map
from keras_ctxattr.tasks.contours.labels import check_truth


def read_tasks(
    maps: str | Path, ground_truth: str | Path, *, split: str | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads contour maps and what people drew.

    Args:
        maps: a folder with `NAME.png` for each image; others in it are left alone.
        ground_truth: what `read_bsds` takes, or a folder of `NAME.mat` files.
        split: "train", "val" or "test"; all that are there if None.

    Returns:
        For each image, by number or name, (float64 `[height, width]` in [0, 1], bool
        `[annotators, height, width]`), as `score_contours` takes them.

    Raises:
        CollectionError: if the ground truth cannot be read or has no contours in some image, a map
            is missing, or one has another size than its ground truth.
        ValueError: if a map is no grey PNG.
    """
    return [(scores, image.boundaries) for image, scores in match_maps(maps, ground_truth, split)]


def match_maps(
    maps: str | Path,
    ground_truth: str | Path,
    split: str | None = None,
    *,
    rows: slice = slice(None),
) -> Iterator[tuple[BsdsImage, np.ndarray]]:
    """Gives the ground truth and the map of each image, or of some rows; see `read_tasks`."""
    folder = Path(maps)
    images = sorted(read_bsds(ground_truth, split), key=lambda image: by_number(image.name))[rows]
    paths = {image.name: folder / f"{image.name}.png" for image in images}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise CollectionError(
            "There must be a contour map NAME.png of every image of the ground truth. Received: "
            f"{folder} without {Path(missing[0]).name} ({len(missing)} of {len(paths)} missing)"
        )
    for image in images:
        contour_map = read_contour_map(paths[image.name])
        check_truth(image, contour_map.shape, paths[image.name])
        yield image, contour_map


def by_number(name: str) -> tuple[int, int, str]:
    """Gives a key to sort names by: numbers as numbers, as the benchmark's tables have them."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)
