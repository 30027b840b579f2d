"""The contract of all hashing methods on fixed features: `fit`, `transform`, `encode`."""

import abc
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_ctxattr.attributes.axes import principal_axes
from keras_ctxattr.attributes.codes import encode_scores


class FeatureHashing(TransformerMixin, BaseEstimator, abc.ABC):
    """Learns `num_bits` binary functions of feature vectors.

    Args:
        num_bits: a multiple of 8.
        random_state: seed.

    Attributes:
        mean_: float64 `[num_features]`, subtracted from every vector.
        n_features_in_: number of features.
    """

    def __init__(self, num_bits: int = 64, *, random_state: int = 0) -> None:
        self.num_bits = num_bits
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learns the functions.

        Args:
            X: features, float `[n, num_features]`.
            y: ignored.

        Raises:
            ValueError: if `num_bits` is no multiple of 8, or features are too few or not finite.
        """
        if self.num_bits < 8 or self.num_bits % 8:
            raise ValueError(
                "`num_bits` must be a multiple of 8, so that codes are whole bytes. "
                f"Received: {self.num_bits}"
            )
        vectors = validate_data(self, X, dtype=[np.float32, np.float64], ensure_min_samples=2)
        self.mean_ = vectors.mean(axis=0, dtype=np.float64)
        self._learn((vectors - self.mean_).astype(np.float64))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Gives scores, float32 `[n, num_bits]`; a bit is set where its score is above 0."""
        check_is_fitted(self)
        vectors = validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        return self._score((vectors - self.mean_).astype(np.float64)).astype(np.float32)

    def encode(self, X: Any) -> np.ndarray:
        """Gives packed codes, uint8 `[n, num_bits / 8]`."""
        return encode_scores(self.transform(X))

    @abc.abstractmethod
    def _learn(self, vectors: np.ndarray) -> None:
        """Learns from centred vectors, float64 `[n, num_features]`."""

    @abc.abstractmethod
    def _score(self, vectors: np.ndarray) -> np.ndarray:
        """Scores centred vectors: float `[n, num_bits]`."""

    def _principal_axes(self, vectors: np.ndarray) -> np.ndarray:
        """Gives the `num_bits` directions of most variance, float64 `[num_features, num_bits]`."""
        if self.num_bits > vectors.shape[1]:
            raise ValueError(
                f"{type(self).__name__} has a principal axis a bit, so there must be at least as "
                "many features as bits: ask for fewer. Received: "
                f"num_bits={self.num_bits}, {vectors.shape[1]} features"
            )
        return principal_axes(vectors, self.num_bits)
