"""Boxes of COCO: annotations in JSON, as the objects of VOC images."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.data.manifest.table import CollectionError
from keras_ctxattr.data.voc import VocImage, VocObjects


def read_coco(path: str | PathLike[str], *, folder: str = "") -> tuple[VocImage, ...]:
    """Reads the boxes of a COCO annotation file (`instances_*.json`).

    Args:
        path: The JSON file, with `images`, `annotations` and `categories`.
        folder: What stands before the names of the images to make them keys of a collection, such
            as "val2017".

    Returns:
        The images in the order of their ids, those without objects as well. Boxes are edges counted
        from 0, as COCO has them. A crowd (`iscrowd`) is a difficult object; no object is truncated
        or occluded, since the file does not say.

    Raises:
        CollectionError: If the file cannot be read, something is missing in it, or an annotation
            names an image or a category that it does not have.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in content["categories"]}
        images = {one["id"]: one for one in content["images"]}
        grouped: dict[Any, list[Any]] = {image: [] for image in sorted(images)}
        for annotation in content["annotations"]:
            grouped[annotation["image_id"]].append(annotation)
        return tuple(
            _to_image(images[image], annotations, names, folder)
            for image, annotations in grouped.items()
        )
    except OSError as error:
        raise CollectionError(
            f"COCO annotations must be a file that exists. Received: {path}: {error.strerror}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise CollectionError(
            "COCO annotations must be JSON with images (id, file_name, height, width), categories "
            "(id, name) and annotations (image_id, category_id, bbox), all ids known. "
            f"Received: {path}: {reason}"
        ) from error


def _to_image(
    image: dict[str, Any], annotations: list[dict[str, Any]], names: dict[Any, str], folder: str
) -> VocImage:
    boxes = np.array([one["bbox"] for one in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # width and height become right and bottom
    nothing = np.zeros(len(annotations), bool)
    return VocImage(
        key=f"{folder.rstrip('/')}/{image['file_name']}" if folder else image["file_name"],
        height=int(image["height"]),
        width=int(image["width"]),
        objects=VocObjects(
            boxes=boxes,
            classes=tuple(names[one["category_id"]] for one in annotations),
            difficult=np.array([bool(one.get("iscrowd", 0)) for one in annotations], bool),
            truncated=nothing,
            occluded=nothing,
        ),
    )
