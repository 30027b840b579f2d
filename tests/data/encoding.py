"""Images and their encoded forms for the tests of this folder."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def make_pixels(height: int = 24, width: int = 40, seed: int = 0) -> np.ndarray:
    """Gives blocks of random colour, uint8 [height, width, 3], of which no two turns are alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, [-(-height // 8), -(-width // 8), 3])
    return np.kron(blocks, np.ones([8, 8, 1])).astype(np.uint8)[:height, :width]


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make_exif(orientation: int, byte_order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    exif[0x0132] = "2020:01:01 00:00:00"
    return exif.tobytes()


def write_images(folder: Path, names: list[str], **size: int) -> list[bytes]:
    """Writes a different PNG for each name."""
    contents = []
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents.append(encode(make_pixels(seed=seed, **size)))
        path.write_bytes(contents[-1])
    return contents
