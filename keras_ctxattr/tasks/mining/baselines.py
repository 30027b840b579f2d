"""Sets of images that need no constellations: around centres of k-means, or drawn."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from sklearn.cluster import MiniBatchKMeans

from keras_ctxattr.data.images import load_images
from keras_ctxattr.data.manifest import Manifest

_SAMPLED_ROWS = 50_000
_MAX_KEYPOINTS = 500  # of an image
_MIN_NORM = 1e-12

VectorsOf = Callable[[int], np.ndarray]
"""From an image's row to its vectors, float `[n, num_features]` of length 1."""

Progress = Callable[[int, int | None], None]


def centre_sets(
    vectors_of: VectorsOf, num_images: int, num_sets: int, size: int, seed: int = 0
) -> list[np.ndarray]:
    """Gives the images nearest to centres of k-means, by their nearest vector.

    With histograms of gradients this is the baseline "HOG k-means", with SIFT "visual words".

    Args:
        vectors_of: The images' vectors.
        num_images: How many there are.
        num_sets: Centres.
        size: Images of a set, at most `num_images`.
        seed: Of the vectors that are clustered, and of the centres.

    Returns:
        Rows of images, int64 `[size]` each, nearest first; the set with the highest mean cosine
        first.

    Raises:
        ValueError: If there are fewer vectors than sets, or fewer images than in a set.

    Reference:
        Doersch, Gupta, Efros 2015, figure 9.
    """
    sample = _sample_rows(vectors_of, num_images, seed)
    if not 1 <= size <= num_images or not 1 <= num_sets <= len(sample):
        raise ValueError(
            f"`num_sets` must be 1 to {len(sample)}, the vectors, and `size` 1 to {num_images}, "
            f"the images. Received: num_sets={num_sets}, size={size}"
        )
    kmeans = MiniBatchKMeans(num_sets, n_init=1, batch_size=4096, random_state=seed).fit(sample)
    centres = kmeans.cluster_centers_.astype(np.float32)
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), _MIN_NORM)
    best = np.full((num_sets, num_images), -1.0, np.float32)
    for image in range(num_images):
        vectors = np.asarray(vectors_of(image), np.float32)
        if len(vectors):
            best[:, image] = (centres @ vectors.T).max(axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, :size]
    means = np.take_along_axis(best, order, axis=1).mean(axis=1)
    return [order[number] for number in np.argsort(-means, kind="stable")]


def random_sets(num_images: int, num_sets: int, size: int, seed: int = 0) -> list[np.ndarray]:
    """Draws sets of different images, int64 `[size]` each."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(num_images)[:size] for _ in range(num_sets)]


def describe_keypoints(manifest: Manifest, progress: Progress | None = None) -> list[np.ndarray]:
    """Gives the SIFT descriptors of the strongest keypoints of images.

    Args:
        manifest: Usable images.
        progress: Called with (images described, all of them).

    Returns:
        For each image float16 `[keypoints, 128]`: square roots of the values over their sum, so
        that products are those of Hellinger's kernel; none for an image without structure.

    Reference:
        Lowe 2004; Arandjelović and Zisserman 2012 (square roots).
    """
    detector = cv2.SIFT.create(_MAX_KEYPOINTS)
    found = []
    for done, one in enumerate(load_images(manifest), start=1):
        grey = cv2.cvtColor(one["image"].numpy(), cv2.COLOR_RGB2GRAY)
        _, values = detector.detectAndCompute(grey, None)
        values = np.zeros((0, 128), np.float32) if values is None else values[:_MAX_KEYPOINTS]
        shares = values / np.maximum(values.sum(axis=1, keepdims=True), _MIN_NORM)
        found.append(np.sqrt(shares).astype(np.float16))
        if progress is not None:
            progress(done, len(manifest))
    return found


def _sample_rows(vectors_of: VectorsOf, num_images: int, seed: int) -> np.ndarray:
    """Gives vectors of all images, as many of each as may be."""
    generator = np.random.default_rng(seed)
    each = max(1, _SAMPLED_ROWS // num_images)
    images = np.sort(generator.permutation(num_images)[:_SAMPLED_ROWS])
    parts = [generator.permutation(vectors_of(int(image)))[:each] for image in images]
    return np.concatenate(parts).astype(np.float32)
