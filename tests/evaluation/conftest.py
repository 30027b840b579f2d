"""Photographs from two sources, and a small run trained on them."""

import tarfile
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.recipe import ContextRecipe
from keras_ctxattr.context.training import train_context
from keras_ctxattr.data.grids import GridConfig
from tests import restatements as plain

TINY = ContextRecipe(
    backbone="compact",
    backbone_options={"width": 4, "num_features": 16},
    hidden_units=16,
    grids=GridConfig(images_per_batch=2, patches_per_batch=24, pairs_per_batch=100),
    dtype_policy="float32",
    evaluate_every=2,
)


def write_photo(path: Path, seed: int, side: int = 120) -> None:
    """Writes smooth noise, so that neighbouring patches have something in common."""
    noise = np.random.default_rng(seed).integers(0, 256, (15, 15, 3), np.uint8)
    picture = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> list[str]:
    """Gives a folder of 20 JPEG files and an archive of 12 PNG files."""
    folder = tmp_path_factory.mktemp("sources")
    for number in range(32):
        kind = "jpg" if number < 20 else "png"
        write_photo(folder / kind / f"{number:02d}.{kind}", number)
    with tarfile.open(folder / "more.tar", "w") as archive:
        archive.add(folder / "png", "png")
    return [str(folder / "jpg"), str(folder / "more.tar")]


@pytest.fixture(scope="session")
def run_folder(sources, tmp_path_factory) -> Path:
    """Gives a finished run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train_context(sources, folder, TINY, steps=2, held_out=0.25)
    return folder


@pytest.fixture(scope="session")
def predictor(run_folder) -> ContextPredictor:
    """Gives the run's model; nobody may change it."""
    return keras.saving.load_model(run_folder / "model.keras")


def plain_features(model: ContextPredictor, patches) -> np.ndarray:
    """Gives features of length 1, of float patches on the 0-255 scale, restated in plain numpy."""
    ready = [plain.normalize_contrast(plain.subtract_channel_means(patch)) for patch in patches]
    return unit_features(model, ready)


def unit_features(model: ContextPredictor, ready) -> np.ndarray:
    """Gives features of length 1, of patches that are normalised already."""
    features = np.asarray(model.backbone(np.stack(ready).astype("float32"), training=False))
    return features / np.linalg.norm(features, axis=1, keepdims=True)
