"""The pictures of a page: members side by side, encoded, inside the page or beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.pictures.sheets import Image, contact_sheet
from keras_ctxattr.runs.writing import write_atomically

GAP = 2  # pixels between tiles

MAX_TILE = 64
"""Pixels of a tile's side, unless larger ones are asked for."""

_MIN_TILE = 16  # pixels
_WEBP_QUALITY = 82
_WEBP_LOSSLESS = 101  # OpenCV: above 100
_PICTURE_NAME = re.compile(r"[0-9a-f]{16}\.webp")


def tile_size(members: Sequence[Sequence[Image]], largest: int = MAX_TILE) -> int:
    """Gives the side of a tile in pixels: that of the largest image, from 16 to `largest`.

    Enlarging is left to the browser.
    """
    sides = [max(image.shape[:2]) for images in members for image in images]
    return min(max([_MIN_TILE, *sides]), largest)


def draw_tiles(images: Sequence[Image], num_columns: int, tile: int) -> np.ndarray:
    """Puts images in rows: uint8 `[height, width, 4]`, transparent between them.

    What lies behind, which may be light or dark, then shows between them.
    """
    rows: list[list[Image | None]] = [
        list(images[start : start + num_columns]) for start in range(0, len(images), num_columns)
    ]
    rows[-1] += [None] * (num_columns - len(rows[-1]))
    colours = contact_sheet(rows, tile_size=tile, padding=GAP)
    masks: list[list[Image | None]] = [
        [None if image is None else np.zeros_like(image[..., :3]) for image in row] for row in rows
    ]
    shown = contact_sheet(masks, tile_size=tile, padding=GAP)[..., :1] == 0
    return np.where(shown, np.concatenate([colours, np.full_like(colours[..., :1], 255)], -1), 0)


def encode_picture(picture: np.ndarray) -> bytes:
    """Gives WebP: it has transparency, and takes less room than JPEG and PNG."""
    colours = np.unique(picture.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16, 0], np.uint32))
    # Drawings are smaller without loss, and sharp.
    quality = _WEBP_LOSSLESS if len(colours) <= 256 else _WEBP_QUALITY
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    _, encoded = cv2.imencode(".webp", ordered, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return encoded.tobytes()


def data_uri(picture: bytes) -> str:
    """Gives an address that is the picture itself."""
    return "data:image/webp;base64," + base64.b64encode(picture).decode()


def write_picture(folder: Path, picture: bytes) -> str:
    """Writes a picture under the name of its content, so that none is ever overwritten.

    Returns:
        Its address, relative to what lies beside the folder.
    """
    name = hashlib.blake2b(picture, digest_size=8).hexdigest() + ".webp"
    if not (folder / name).exists():
        with write_atomically(folder / name, num_bytes=len(picture)) as partial:
            partial.write_bytes(picture)
    return f"{urllib.parse.quote(folder.name)}/{name}"


def remove_others(folder: Path, names: set[str]) -> None:
    """Removes the pictures of an earlier page, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _PICTURE_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()
