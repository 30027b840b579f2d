"""Small networks, and images with the statistics of photographs, roughly."""

import keras
import numpy as np
from keras import layers
from scipy.ndimage import gaussian_filter

from keras_ctxattr.layers import LocalResponseNormalization


def images(count: int, seed: int = 0) -> np.ndarray:
    """Gives coloured clouds, float32 `[count, 16, 16, 3]`."""
    noise = np.random.default_rng(seed).normal(size=(count, 16, 16, 3))
    return (50 * gaussian_filter(noise, (0, 1, 1, 0.3)) / 0.3).astype("float32")


def batches(count: int = 4, seed: int = 0) -> list[np.ndarray]:
    return np.split(images(64 * count, seed), count)


def chain(*, normalize: bool = False) -> keras.Model:
    """Convolutions, ReLUs and pooling; where asked for, a layer that is not homogeneous."""
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv1")(inputs)
    if normalize:
        maps = LocalResponseNormalization(alpha=1.0)(maps)
    maps = layers.MaxPooling2D(2)(layers.Conv2D(12, 3, padding="same", name="conv2")(maps))
    flat = layers.Flatten()(layers.ReLU()(maps))
    hidden = layers.Dense(10, activation="relu", name="hidden")(flat)
    return keras.Model(inputs, layers.Dense(4, name="top")(layers.Dropout(0.5)(hidden)))
