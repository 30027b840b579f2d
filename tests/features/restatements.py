"""Descriptors as the libraries that define them compute them, one patch after the other."""

import cv2
import numpy as np
from skimage.color import rgb2gray
from skimage.feature import daisy, fisher_vector, hog
from sklearn.mixture import GaussianMixture


def hog_of(patch, cell, orientations=9, block=2):
    return hog(patch, orientations, (cell, cell), (block, block), "L2-Hys", channel_axis=-1)


def daisy_of(patch, radius, points, **settings):
    """Gives the descriptors of some (row, column) out of those of all pixels."""
    everywhere = daisy(rgb2gray(patch), 1, radius, normalization="l2", **settings)
    return np.concatenate([everywhere[y - radius, x - radius] for y, x in points])


def windows_of(size, cells, step):
    """Gives (middle x, middle y, side of a cell), row by row."""
    for cell in cells:
        middles = range(2 * cell, size - 2 * cell + 1, step)
        yield from ((x, y, cell) for y in middles for x in middles)


def sift_of(patch, windows):
    """Gives SIFT of length 1, each window by itself."""
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    rows = []
    for x, y, cell in windows:
        point = cv2.KeyPoint(float(x), float(y), 2 * cell / 3, 0.0)
        row = cv2.SIFT_create().compute(grey, [point])[1][0]
        rows.append(row / max(np.linalg.norm(row), 1))
    return np.array(rows)


def colours_of(patch, windows):
    """Gives mean and deviation of the channels in 4 x 4 cells."""
    rows = []
    for x, y, cell in windows:
        row = []
        for top in range(y - 2 * cell, y + 2 * cell, cell):
            for left in range(x - 2 * cell, x + 2 * cell, cell):
                pixels = patch[top : top + cell, left : left + cell].reshape(-1, 3) / 255
                row += [*pixels.mean(0), *pixels.std(0)]
        rows.append(row)
    return np.array(rows)


def fisher_of(local, learnt):
    """Gives scikit-image's improved Fisher vector, given what one kind has learnt."""
    mixture = GaussianMixture(len(learnt["weights"]), covariance_type="diag")
    mixture.weights_, mixture.means_ = learnt["weights"], learnt["means"]
    mixture.covariances_ = learnt["variances"]
    mixture.precisions_cholesky_ = learnt["variances"] ** -0.5
    return fisher_vector((local - learnt["center"]) @ learnt["axes"], mixture, improved=True)
