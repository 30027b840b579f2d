"""Slow plain restatements of the specification, in numpy and loops, to test the fast code against.

Written from the papers' and the specification's text alone. Nothing here imports the package.
"""

import itertools
import math

import numpy as np

# (row step, column step) of the second patch seen from the first, in the order of the labels.
STEPS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


# ---- patches -------------------------------------------------------------------------------------


def flat_canvas(image, num_pixels):
    """Gives an image's rows of pixels one after the other, zero-padded to `num_pixels`."""
    canvas = np.zeros((num_pixels, 3), np.uint8)
    pixels = [pixel for row in image for pixel in row]
    canvas[: len(pixels)] = pixels
    return canvas


def canvas_image(canvas, size):
    """Gives the image that a flat canvas holds."""
    height, width = size
    return np.array([canvas[row * width : (row + 1) * width] for row in range(height)])


def clamp(corner, size, side):
    """Moves a patch's (row, column) back into an image of (height, width)."""
    return tuple(min(max(corner[axis], 0), size[axis] - side) for axis in (0, 1))


def cut(image, corner, side):
    """Cuts one square patch."""
    row, column = corner
    return image[row : row + side, column : column + side]


def coordinate_image(height, width, number=0):
    """Gives an image whose pixels say where they are, sides up to 1024, number up to 15.

    Channels: row modulo 256, column modulo 256, and number + 16 * (row // 256) + 64 * (column //
    256): below 256 pixels a side simply (row, column, number).
    """
    row, column = np.mgrid[:height, :width]
    high = number + 16 * (row // 256) + 64 * (column // 256)
    return np.stack([row % 256, column % 256, high], -1).astype(np.uint8)


def read_coordinates(pixel):
    """Gives (number, row, column) of a pixel of a coordinate image."""
    row, column, high = (int(value) for value in pixel)
    return high % 16, row + 256 * (high // 16 % 4), column + 256 * (high // 64)


# ---- processing ----------------------------------------------------------------------------------


def resize_line(samples, length):
    """Resamples the first axis by a triangle, widened by the reduction, pixel areas aligned."""
    count = len(samples)
    scale = count / length
    width = max(scale, 1)
    resized = []
    for index in range(length):
        centre = (index + 0.5) * scale - 0.5
        weights = np.maximum(0, 1 - np.abs(np.arange(count) - centre) / width)
        resized.append(np.tensordot(weights, samples, 1) / weights.sum())
    return np.array(resized)


def resize_square(patch, side):
    """Resamples the first two axes of a patch."""
    rows = resize_line(patch, side)
    return resize_line(rows.swapaxes(0, 1), side).swapaxes(0, 1)


def downsample(patch, side):
    """Shrinks a patch to `side` pixels a side and enlarges it again."""
    return resize_square(resize_square(patch, side), len(patch))


def resize_table(size, side):
    """Gives the `[size, size]` matrix of shrinking and enlarging a line."""
    return resize_line(resize_line(np.eye(size), side), size)


def project(patch):
    """Multiplies every pixel by B = I - a'a / (aa')."""
    a = np.array([[-1.0, 2.0, -1.0]])
    b = np.eye(3) - (a.T @ a) / (a @ a.T)
    return np.array([[pixel @ b for pixel in row] for row in patch])


def root_mean_square(patch):
    """Gives sqrt of the mean of all squares."""
    return math.sqrt(sum(float(value) ** 2 for value in patch.ravel()) / patch.size)


def normalize_contrast(patch):
    """Gives patch / max(RMS, 1e-3) * 50."""
    return patch / max(root_mean_square(patch), 1e-3) * 50


def subtract_channel_means(patch):
    """Gives every channel without its mean over the patch."""
    return np.stack([patch[..., c] - patch[..., c].mean() for c in range(3)], -1)


# ---- network layers ------------------------------------------------------------------------------


def pool_in_ceil_mode(activations):
    """3x3 max pooling, stride 2, as Caffe: the last window may hang over the edge."""
    batch, height, width, channels = activations.shape
    rows, columns = (math.ceil((side - 3) / 2) + 1 for side in (height, width))
    pooled = np.zeros((batch, rows, columns, channels), activations.dtype)
    for row, column in itertools.product(range(rows), range(columns)):
        window = activations[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        pooled[:, row, column] = window.max((1, 2))
    return pooled


def respond_locally(activations, size=5, alpha=1e-4):
    """Gives a_c / (1 + alpha / size * sum of a_k ** 2 over `size` neighbouring channels) ** .75."""
    channels = activations.shape[-1]
    result = np.zeros_like(activations)
    for c in range(channels):
        near = activations[..., max(0, c - size // 2) : c + size // 2 + 1]
        result[..., c] = activations[..., c] / (1 + alpha / size * (near**2).sum(-1)) ** 0.75
    return result


def batch_normalize(values, epsilon=1e-5):
    """Normalises by the statistics of the first axis, without scale and shift."""
    return (values - values.mean(0)) / np.sqrt(values.var(0) + epsilon)


# ---- grids ---------------------------------------------------------------------------------------


def count_cells(side, origin, pitch, gap):
    """Gives how many patches of a lattice fit along one side."""
    return math.floor((side + gap - origin) / pitch)


def lay_grid(size, origin, *, pitch, gap):
    """Enumerates (grid row, grid column) -> (row, column) in pixels of one grid's patches."""
    rows, columns = (count_cells(size[axis], origin[axis], pitch, gap) for axis in (0, 1))
    return {
        (r, c): (origin[0] + r * pitch, origin[1] + c * pitch)
        for r in range(rows)
        for c in range(columns)
    }


def pair_neighbours(grid):
    """Enumerates all ordered 8-neighbour pairs: (first cell, second cell, label)."""
    pairs = []
    for row, column in grid:
        for label, (row_step, column_step) in enumerate(STEPS):
            neighbour = (row + row_step, column + column_step)
            if neighbour in grid:
                pairs.append(((row, column), neighbour, label))
    return pairs


# ---- distributions -------------------------------------------------------------------------------


def assert_follows(samples, cumulative):
    """Kolmogorov-Smirnov: the samples' distribution is `cumulative`, at the .1 % level.

    For discrete samples `cumulative(value)` is P(sample <= value), which makes it stricter to
    reject, never laxer to accept a wrong support: that is asserted beside.
    """
    samples = np.sort(np.asarray(samples, "float64").ravel())
    count = len(samples)
    expected = np.array([cumulative(value) for value in samples])
    # Equal samples share the empirical distribution's value after the last of them.
    at_or_below = np.searchsorted(samples, samples, side="right") / count
    distance = np.abs(at_or_below - expected).max()
    assert distance < 1.95 / math.sqrt(count), f"distance {distance:.4f} over {count} samples"


def assert_uniform(counts):
    """Chi-square: all counts have the same expectation, at about the .01 % level."""
    counts = np.asarray(counts, "float64")
    expected = counts.sum() / len(counts)
    assert expected >= 5, "too few samples to tell"
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    # Wilson-Hilferty: the 99.99 % quantile of chi-square.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit, f"chi-square {statistic:.1f} over {limit:.1f}: {counts}"
