"""k-means with the contract of `DiscriminativeClustering`: the ablation."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data


class KMeansClustering(ClusterMixin, BaseEstimator):
    """Plain k-means; every sample belongs to a cluster.

    Args:
        num_clusters: number of centres, at least 1.
        random_state: seed.

    Attributes:
        labels_: int32 `[n]`: cluster of each sample.
        cluster_centers_: float32 `[num_clusters, num_features]`.
        members_: for each cluster its rows, int64, nearest to the centre first.
        n_features_in_: number of features.

    Example:
        >>> vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
        >>> sorted(np.bincount(KMeansClustering(3).fit(vectors).labels_).tolist())
        [4, 4, 4]

    Reference:
        Huang, Loy, Tang 2016, section 5, the ablation "k-means".
    """

    def __init__(self, num_clusters: int = 100, *, random_state: int = 0) -> None:
        self.num_clusters = num_clusters
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, natural_world: Any = None) -> "KMeansClustering":
        """Clusters samples.

        Args:
            X: float `[n, num_features]`.
            y: ignored.
            natural_world: ignored; the contract of `DiscriminativeClustering`.

        Returns:
            The estimator.

        Raises:
            ValueError: if there are fewer samples than clusters, or a value is not finite.
        """
        vectors = validate_data(self, X, dtype=[np.float32, np.float64], ensure_min_samples=1)
        if not 1 <= self.num_clusters <= len(vectors):
            raise ValueError(
                f"`num_clusters` must be 1 to the number of samples (n_samples={len(vectors)}). "
                f"Received: {self.num_clusters}"
            )
        self._kmeans = KMeans(self.num_clusters, n_init=1, random_state=self.random_state)
        self.labels_ = self._kmeans.fit_predict(vectors).astype(np.int32)
        self.cluster_centers_ = self._kmeans.cluster_centers_
        self.members_ = self._rank(vectors)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Gives minus the distance to each centre, float `[n, num_clusters]`."""
        check_is_fitted(self)
        return -self._kmeans.transform(validate_data(self, X, reset=False))

    def predict(self, X: Any) -> np.ndarray:
        """Gives the nearest centre of each sample, int32 `[n]`."""
        check_is_fitted(self)
        return self._kmeans.predict(
            validate_data(self, X, reset=False, dtype=self.cluster_centers_.dtype)
        ).astype(np.int32)

    def _rank(self, vectors: np.ndarray) -> list[np.ndarray]:
        offsets = vectors - self.cluster_centers_[self.labels_]
        order = np.lexsort((np.linalg.norm(offsets, axis=1), self.labels_))
        sizes = np.bincount(self.labels_, minlength=self.num_clusters)
        return np.split(order, np.cumsum(sizes)[:-1])
