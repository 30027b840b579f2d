"""Photographs of a disc on noise, with its outline as two people drew it."""

import keras
import numpy as np

from keras_ctxattr.attributes import AttributeHasher, encode_samples
from keras_ctxattr.tasks.contours.attributes import ContourAttributes
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.crops import PATCH
from keras_ctxattr.tasks.contours.labels import ContourImages


def draw_discs(count=3, *, shape=(120, 150), seed=0):
    """Gives photographs whose contours are plain to see."""
    generator = np.random.default_rng(seed)
    pixels, boundaries = [], []
    for number in range(count):
        height, width = shape if number % 2 == 0 else shape[::-1]
        rows, columns = np.indices((height, width))
        centre = generator.uniform([40, 40], [height - 40, width - 40])
        distance = np.hypot(rows - centre[0], columns - centre[1])
        picture = generator.integers(0, 60, (height, width, 3))
        picture[distance < 25] += 150
        pixels.append(picture.astype(np.uint8))
        outline = np.abs(distance - 25) < 0.6
        boundaries.append(np.stack([outline, np.roll(outline, 1, axis=1)]))
    return ContourImages(
        names=tuple(map(str, range(count))), pixels=tuple(pixels), boundaries=tuple(boundaries)
    )


def draw_strokes(count, seed=0):
    """Gives contour patches uint8 `[count, 45, 45]`: straight lines of any direction."""
    angles = np.random.default_rng(seed).uniform(0, np.pi, count)
    rows, columns = np.indices((PATCH, PATCH)) - PATCH // 2
    across = np.multiply.outer(np.cos(angles), rows) + np.multiply.outer(np.sin(angles), columns)
    return np.where(np.abs(across) < 0.6, 255, 0).astype(np.uint8)


def make_attributes(bits=8, seed=0):
    """Gives attributes of an untrained network, with the book of 60 strokes."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((PATCH, PATCH, 3))
    maps = keras.layers.AveragePooling2D(9)(inputs)
    backbone = keras.Model(inputs, keras.layers.Flatten()(maps))
    hasher = AttributeHasher(backbone, num_attributes=bits, seed=seed)
    strokes = np.repeat(draw_strokes(60)[..., None], 3, axis=-1)
    vectors = hasher.describe(strokes).numpy()
    hasher.scaling.set_statistics(vectors.mean(axis=0), float(vectors.var()))
    return ContourAttributes(
        hasher=hasher, book=CodeBook.of(encode_samples(hasher, strokes), strokes)
    )
