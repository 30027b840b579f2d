"""Photographs of a disc on noise, with its outline as two people drew it."""

import numpy as np

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
