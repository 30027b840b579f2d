"""Hashing by the signs of linear projections."""

import numpy as np

from keras_ctxattr.attributes.baselines.base import FeatureHashing


class LSH(FeatureHashing):
    """Locality-sensitive hashing: random Gaussian projections of centred features.

    Reference:
        Charikar 2002, "Similarity estimation techniques from rounding algorithms", section 3.
    """

    def _learn(self, vectors: np.ndarray) -> None:
        generator = np.random.default_rng(self.random_state)
        self.projections_ = generator.standard_normal((vectors.shape[1], self.num_bits))

    def _score(self, vectors: np.ndarray) -> np.ndarray:
        return vectors @ self.projections_


class PCAH(LSH):
    """The signs of the projections on the principal axes.

    Reference:
        Gong, Lazebnik, Gordo, Perronnin 2013, "Iterative quantization", section 2.1, before the
        rotation.
    """

    def _learn(self, vectors: np.ndarray) -> None:
        self.projections_ = self._principal_axes(vectors)


class ITQ(LSH):
    """Iterative quantization: principal axes, rotated so that projections are near their signs.

    Args:
        num_bits: a multiple of 8.
        num_iterations: alternations of signs and rotation.
        random_state: seed of the first rotation.

    Reference:
        Gong, Lazebnik, Gordo, Perronnin 2013, "Iterative quantization", section 2.2.
    """

    def __init__(
        self, num_bits: int = 64, *, num_iterations: int = 50, random_state: int = 0
    ) -> None:
        super().__init__(num_bits, random_state=random_state)
        self.num_iterations = num_iterations

    def _learn(self, vectors: np.ndarray) -> None:
        axes = self._principal_axes(vectors)
        projected = vectors @ axes
        generator = np.random.default_rng(self.random_state)
        start = generator.standard_normal((self.num_bits, self.num_bits))
        rotation = np.linalg.qr(start)[0]
        for _ in range(self.num_iterations):
            signs = np.where(projected @ rotation > 0, 1.0, -1.0)
            # Orthogonal Procrustes: the rotation that brings `projected` nearest to `signs`.
            left, _, right = np.linalg.svd(projected.T @ signs)
            rotation = left @ right
        self.projections_ = axes @ rotation
