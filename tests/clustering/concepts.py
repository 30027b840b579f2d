"""A folder of small images of a few concepts in noise, and a recipe that takes seconds."""

from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.clustering import AlternationRecipe

TINY = AlternationRecipe(
    backbone_options={"width": 8, "num_features": 16},
    copies=2,
    batch_size=32,
    clustering={"num_iterations": 2, "num_growths": 2, "samples_per_cluster": 4},
    dtype_policy="float32",
)
NUM_CONCEPTS = 6


def write_concepts(folder: Path, num_images: int = 240, seed: int = 0) -> Path:
    """Writes images of 32 pixels, class by folder: stripes of one direction and colour each."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    for number in range(num_images):
        concept = number % NUM_CONCEPTS
        angle = np.pi * concept / NUM_CONCEPTS
        phase = generator.uniform(0, 2 * np.pi)
        wave = np.sin((np.cos(angle) * columns + np.sin(angle) * rows) / 2 + phase)
        colour = 60 * np.eye(3)[concept % 3]
        image = 128 + wave[..., None] * (40 + colour) + generator.normal(0, 25, (32, 32, 3))
        path = folder / f"concept{concept}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return folder
