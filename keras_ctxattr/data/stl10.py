"""STL-10 from its official binaries: images, labels, and the ten folds to learn from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

SIDE = 96
"""Pixels of each side."""

_IMAGE_BYTES = 3 * SIDE * SIDE


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stl10:
    """The labelled images of STL-10.

    Attributes:
        train_pixels: uint8 `[train images, 96, 96, 3]`, RGB, upright; memory-mapped.
        train_labels: int64 `[train images]`, 0 and more (1 and more in the file).
        test_pixels: uint8 `[test images, 96, 96, 3]`.
        test_labels: int64 `[test images]`.
        folds: rows of the training images, counted from 0; int64, one array a fold.
        class_names: by number.
    """

    train_pixels: np.ndarray
    train_labels: np.ndarray
    test_pixels: np.ndarray
    test_labels: np.ndarray
    folds: list[np.ndarray]
    class_names: list[str]


def read_stl10(folder: str | Path) -> Stl10:
    """Reads the binaries of STL-10.

    Args:
        folder: what `stl10_binary.tar.gz` unpacks to, `stl10_binary`, or the folder it is in;
            `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin`, `fold_indices.txt` and
            `class_names.txt` are read.

    Raises:
        ValueError: if a file is missing, or they do not fit together.

    Reference:
        Coates, Lee, Ng 2011; https://cs.stanford.edu/~acoates/stl10/
    """
    place = _locate(Path(folder))
    class_names = _read_text(place / "class_names.txt").split()
    train = _read_part(place, "train", len(class_names))
    test = _read_part(place, "test", len(class_names))
    return Stl10(
        train_pixels=train[0],
        train_labels=train[1],
        test_pixels=test[0],
        test_labels=test[1],
        folds=_read_folds(place / "fold_indices.txt", len(train[1])),
        class_names=class_names,
    )


def _locate(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(
            "STL-10 must be a folder with its binaries, such as train_X.bin; unpack "
            f"stl10_binary.tar.gz. Received: {folder}"
        )
    inner = folder / "stl10_binary"
    return inner if inner.is_dir() else folder


def _read_part(place: Path, part: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives images and labels of one part."""
    labels = np.frombuffer(_read_bytes(place / f"{part}_y.bin"), np.uint8)
    if not len(labels) or labels.min() < 1 or labels.max() > num_classes:
        raise ValueError(
            f"{part}_y.bin must have labels from 1 to the number of classes, {num_classes}. "
            f"Received: {len(labels)} labels, {labels.min(initial=255)} to {labels.max(initial=0)}"
        )
    pixels = _read_pixels(place / f"{part}_X.bin")
    if len(pixels) != len(labels):
        raise ValueError(
            f"{part}_X.bin and {part}_y.bin must have as many images as labels. Received: "
            f"{len(pixels)} and {len(labels)}"
        )
    return pixels, labels.astype(np.int64) - 1


def _read_pixels(path: Path) -> np.ndarray:
    """Gives images uint8 `[images, 96, 96, 3]`, of which only what is used is read."""
    size = _size(path)
    if not size or size % _IMAGE_BYTES:
        raise ValueError(
            f"{path.name} must be whole images of {_IMAGE_BYTES} bytes; download it again. "
            f"Received: {size} bytes"
        )
    stored = np.memmap(path, np.uint8, "r").reshape(-1, 3, SIDE, SIDE)
    # Stored as MATLAB has it, column by column: [image, channel, column, row].
    return stored.transpose(0, 3, 2, 1)


def _read_folds(path: Path, num_images: int) -> list[np.ndarray]:
    """Gives the rows of each fold; the file counts from 0."""
    lines = [line.split() for line in _read_text(path).splitlines() if line.strip()]
    try:
        folds = [np.array([int(word) for word in line], np.int64) for line in lines]
    except ValueError as error:
        raise ValueError(
            f"{path.name} must hold whole numbers, a fold a line. Received: {error}"
        ) from error
    if not folds:
        raise ValueError(f"{path.name} must hold a fold a line. Received: an empty file")
    for number, fold in enumerate(folds, start=1):
        if fold.min() < 0 or fold.max() >= num_images or len(np.unique(fold)) < len(fold):
            raise ValueError(
                f"Each fold must name training images once, counted from 0 to {num_images - 1}. "
                f"Received: line {number} of {path.name} with {fold.min()} to {fold.max()}, "
                f"{len(np.unique(fold))} of {len(fold)} different"
            )
    return folds


def _read_bytes(path: Path) -> bytes:
    _size(path)
    return path.read_bytes()


def _read_text(path: Path) -> str:
    return _read_bytes(path).decode("utf-8", "replace")


def _size(path: Path) -> int:
    if not path.is_file():
        raise ValueError(
            f"The binaries of STL-10 must be all there. Received: {path.parent} without {path.name}"
        )
    return path.stat().st_size
