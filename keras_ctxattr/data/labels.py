"""Classes of images, for scoring only: from their folders, or from a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from keras_ctxattr.data.manifest import CollectionError


def read_labels(source: str | Path, keys: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Gives (class of each image, names of the classes).

    Args:
        source: `"folders"`: the folder in which an image lies is its class; or a CSV file with the
            columns `image` and `label`, in which an image is named by its key or the end of it, as
            far as that is unique ("train/0001.jpg").
        keys: the images' keys in their manifest.

    Returns:
        int64 `[len(keys)]`, -1 for images that the table does not name, or that lie in no folder;
        names in alphabetical order.

    Raises:
        CollectionError: if the table cannot be read, a line of it is incomplete, contradicts
            another or names several images, or there are fewer than 2 classes.
    """
    if str(source) == "folders":
        found = _folders(keys)
    else:
        table = _read_table(Path(source))
        ends = [_known_end(key, table) for key in keys]
        _check_unique(keys, ends)
        found = [None if end is None else table[end] for end in ends]
    names = sorted({name for name in found if name is not None})
    if len(names) < 2:
        raise CollectionError(
            "Labels must tell at least 2 classes apart: give one folder a class, or a CSV file "
            f"with the columns image,label. Received: {len(names)} from {source}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    classes = np.array([-1 if name is None else numbers[name] for name in found], np.int64)
    return classes, _shorten(names) if str(source) == "folders" else names


def _folders(keys: Sequence[str]) -> list[str | None]:
    """Gives each image's folder; None for images that lie in none."""
    parents = [PurePosixPath(key).parent for key in keys]
    return [None if parent == PurePosixPath(".") else str(parent) for parent in parents]


def _read_table(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CollectionError(
            "Labels must be `folders` or a CSV file in UTF-8 with the columns image,label. "
            f"Received: {path} ({error})"
        ) from error
    if not rows or not {"image", "label"} <= set(rows[0]):
        columns = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise CollectionError(
            f"A table of labels must have the columns image,label. Received: {path} with {columns}"
        )
    table: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        image, label = ((row[name] or "").strip() for name in ("image", "label"))
        if not image or not label or table.get(image, label) != label:
            raise CollectionError(
                "Every line of a table of labels must name an image and its one label; leave out "
                f"images without one. Received: {path}, line {line}: {image!r}, {label!r}"
            )
        table[image] = label
    return table


def _known_end(key: str, table: Mapping[str, str]) -> str | None:
    """Gives the longest end of a key that the table has."""
    parts = PurePosixPath(key).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in table), None)


def _check_unique(keys: Sequence[str], ends: Sequence[str | None]) -> None:
    """Refuses a name in the table that is the end of several keys."""
    owners: dict[str, str] = {}
    for key, end in zip(keys, ends, strict=True):
        if end is not None and owners.setdefault(end, key) != key:
            raise CollectionError(
                "A table of labels must name each image so that it cannot be another; write more "
                f"of its path. Received: {end}, which is {owners[end]} and {key}"
            )


def _shorten(folders: Sequence[str]) -> list[str]:
    """Leaves out what all folders have in common."""
    paths = [PurePosixPath(folder).parts for folder in folders]
    shared = 0
    while all(len(path) > shared + 1 for path in paths) and len({p[shared] for p in paths}) == 1:
        shared += 1
    return ["/".join(path[shared:]) for path in paths]
