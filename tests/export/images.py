"""Images, models to export, and what tests of modules compare with."""

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import compact
from keras_ctxattr.context.predictor import ContextPredictor
from tests.backbones.trained import give_random_statistics


def small_hasher() -> AttributeHasher:
    keras.utils.set_random_seed(0)
    backbone = give_random_statistics(compact(width=8, num_features=16))
    return AttributeHasher(backbone, num_attributes=16, seed=0)


def small_predictor(**settings: object) -> ContextPredictor:
    keras.utils.set_random_seed(0)
    backbone = give_random_statistics(compact(width=8, num_features=16))
    return ContextPredictor(backbone, hidden_units=8, **settings)


def photos(count: int, height: int = 96, width: int = 96, seed: int = 0) -> np.ndarray:
    """Noise over a gradient, in [0, 1]."""
    noise = np.random.default_rng(seed).uniform(0, 0.5, (count, height, width, 3))
    return (noise + np.linspace(0, 0.5, width)[:, None]).astype("float32")


def normalize(images: np.ndarray) -> np.ndarray:
    """Restates the released preset: no channel mean, a root mean square of 50."""
    centred = 255.0 * (images - images.mean((1, 2), keepdims=True))
    return 50 * centred / np.sqrt((centred**2).mean((1, 2, 3), keepdims=True))


def assert_close(found: object, expected: object, tolerance: float = 1e-4) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


def encode(pixels: np.ndarray, suffix: str) -> bytes:
    encoder = {"png": tf.io.encode_png, "jpeg": tf.io.encode_jpeg}[suffix]
    return encoder(tf.constant(pixels)).numpy()


def two_classes() -> tuple[np.ndarray, np.ndarray]:
    """Horizontal against vertical stripes, eight images."""
    stripes = np.zeros((8, 96, 96, 3), "float32")
    stripes[::2, ::8], stripes[1::2, :, ::8] = 1, 1
    return stripes + photos(8) / 10, np.arange(8) % 2
