"""What tests of mining share: photographs with a thing planted in some of them."""

from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.tasks.mining.dense import DenseFeatures
from keras_ctxattr.tasks.mining.describing import DenseDescriber
from keras_ctxattr.tasks.mining.lattices import Lattice

THING = 192  # pixels: a constellation
HEIGHT, WIDTH = 384, 480


def draw_thing(seed: int = 7) -> np.ndarray:
    """Gives a pattern whose quarters differ, uint8 `[THING, THING, 3]`."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return cv2.resize(coarse, (THING, THING), interpolation=cv2.INTER_NEAREST)


def plant_things(folder: Path, count: int = 10, num_planted: int = 6) -> list[tuple[int, int]]:
    """Writes photographs of noise, the first of them with the thing; gives its (left, top)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    places = []
    for number in range(count):
        coarse = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        image = cv2.GaussianBlur(cv2.resize(coarse, (WIDTH, HEIGHT)), (0, 0), 3)
        if number < num_planted:
            left, top = (32 * int(generator.integers(1, 6)) for _ in range(2))
            image[top : top + THING, left : left + THING] = draw_thing()
            places.append((left, top))
        cv2.imwrite(str(folder / f"{number:02d}.png"), image[..., ::-1])
    return places


def coordinates_describer(patch_size: int = 64, stride: int = 32) -> DenseDescriber:
    """Gives a describer whose features are the mean pixel of each patch: r, g and b."""

    def describe(image):
        pixels = np.asarray(image, np.float64)
        rows, columns = ((side - patch_size) // stride + 1 for side in pixels.shape[:2])
        return np.array(
            [
                [
                    pixels[
                        row * stride : row * stride + patch_size,
                        column * stride : column * stride + patch_size,
                    ].mean(axis=(0, 1))
                    for column in range(columns)
                ]
                for row in range(rows)
            ]
        )

    return DenseDescriber(
        name="means",
        patch_size=patch_size,
        stride=stride,
        num_features=3,
        describe=describe,
        config={"means": patch_size},
    )


class Sizes:
    """A manifest's sizes, all that features of unit tests need of it."""

    def __init__(self, count: int, height: int = 128, width: int = 192) -> None:
        self.heights, self.widths = np.full(count, height), np.full(count, width)
        self.keys = np.array([f"{number}.png" for number in range(count)])

    def __len__(self) -> int:
        return len(self.heights)


def random_features(num_images: int = 7, num_dims: int = 8, seed: int = 0) -> DenseFeatures:
    """Gives features drawn at random, of photographs of 3 x 5 patches."""
    lattice = Lattice(patch_size=64, stride=32, num_pixels=128 * 192, scales=(1.0,))
    vectors = np.random.default_rng(seed).standard_normal((num_images * 15, num_dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return DenseFeatures(
        manifest=Sizes(num_images),  # type: ignore[arg-type]
        lattice=lattice,
        starts=np.arange(num_images + 1) * 15,
        vectors=vectors.astype(np.float16),
        kept=1.0,
    )
