"""k-means with the contract of `DiscriminativeClustering`: the ablation."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_ctxattr.clustering.detectors import best_cluster
from keras_ctxattr.clustering.rows import Rows
from keras_ctxattr.data.shards import ShardedArray


class KMeansClustering(ClusterMixin, BaseEstimator):
    """Plain k-means; every sample belongs to a cluster.

    All samples are in memory, up to four times while it starts: it is for tables that fit.

    Args:
        num_clusters: number of centres, at least 1.
        normalize: whether samples are centred, and each divided by its own length.
        random_state: seed.

    Attributes:
        labels_: int32 `[n]`: cluster of each sample.
        cluster_centers_: float32 `[num_clusters, num_features]`; with `normalize` of samples less
            `mean_`, at unit length.
        members_: for each cluster its rows, int64, nearest to the centre first.
        mean_: float32 `[num_features]`.
        classifiers_: float32 `[num_clusters, num_features + 1]`, the bias last: half the squared
            length of a sample less half its squared distance to the centre, so that the nearest
            centre has the highest score.
        scores_: float32 `[num_clusters]`: minus the mean distance of the members to the centre.
        firing_precision_: None; `validation_rows_`: none; `num_empty_`: 0; `history_`: empty. What
            `DiscriminativeClustering` holds out and drops, k-means does not.
        n_features_in_: number of features.

    Example:
        >>> vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
        >>> sorted(np.bincount(KMeansClustering(3).fit(vectors).labels_).tolist())
        [4, 4, 4]

    Reference:
        Huang, Loy, Tang 2016, section 5, the ablation "k-means".
    """

    def __init__(
        self, num_clusters: int = 100, *, normalize: bool = False, random_state: int = 0
    ) -> None:
        self.num_clusters = num_clusters
        self.normalize = normalize
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        natural_world: Any = None,
        groups: Any = None,
        report: Any = None,
        checkpoints: Any = None,
    ) -> "KMeansClustering":
        """Clusters samples.

        Args:
            X: float `[n, num_features]`: an array, or a table that is sliced like one.
            y: ignored.
            natural_world: ignored; the contract of `DiscriminativeClustering`.
            groups: ignored.
            report: ignored.
            checkpoints: ignored; an interruption costs all of it.

        Returns:
            The estimator.

        Raises:
            ValueError: if there are fewer samples than clusters, or a value is not finite.
        """
        vectors = self._check(X, reset=True)
        if not 1 <= self.num_clusters <= len(vectors):
            raise ValueError(
                f"`num_clusters` must be 1 to the number of samples (n_samples={len(vectors)}). "
                f"Received: {self.num_clusters}"
            )
        self.mean_ = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        vectors = self._prepare(vectors)
        self._kmeans = KMeans(self.num_clusters, n_init=1, random_state=self.random_state)
        self.labels_ = self._kmeans.fit_predict(vectors).astype(np.int32)
        self.cluster_centers_ = self._kmeans.cluster_centers_
        biases = -0.5 * np.square(self.cluster_centers_).sum(axis=1, keepdims=True)
        self.classifiers_ = np.hstack([self.cluster_centers_, biases]).astype(np.float32)
        distances = np.linalg.norm(vectors - self.cluster_centers_[self.labels_], axis=1)
        self._rank(distances)
        self.validation_rows_ = np.zeros(0, np.int64)
        self.firing_precision_ = None
        self.num_empty_ = 0
        self.history_: list[dict[str, Any]] = []
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Gives minus the distance to each centre, float `[n, num_clusters]`."""
        check_is_fitted(self)
        return -self._kmeans.transform(self._prepare(self._check(X)))

    def predict(self, X: Any) -> np.ndarray:
        """Gives the nearest centre of each sample, int32 `[n]`."""
        check_is_fitted(self)
        return self._kmeans.predict(self._prepare(self._check(X))).astype(np.int32)

    def assign(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Gives (the nearest centre, int32 `[n]`; its classifier's score, float32 `[n]`)."""
        check_is_fitted(self)
        return best_cluster(self.classifiers_, self._prepare(self._check(X)))

    def _rank(self, distances: np.ndarray) -> None:
        """Sets the members, nearest first, and the scores; distances are those to the centres."""
        order = np.lexsort((distances, self.labels_))
        sizes = np.bincount(self.labels_, minlength=self.num_clusters)
        self.members_ = np.split(order, np.cumsum(sizes)[:-1])
        sums = np.bincount(self.labels_, distances, minlength=self.num_clusters)
        self.scores_ = (-sums / np.maximum(sizes, 1)).astype(np.float32)

    def _check(self, X: Any, *, reset: bool = False) -> np.ndarray:
        table = X[:] if isinstance(X, ShardedArray) else X
        kinds = [np.float32, np.float64] if reset else self.cluster_centers_.dtype
        return validate_data(self, table, reset=reset, dtype=kinds, ensure_min_samples=1)

    def _prepare(self, vectors: np.ndarray) -> np.ndarray:
        if not self.normalize:
            return vectors
        numbers = np.arange(len(vectors))
        return np.asarray(Rows(table=vectors, numbers=numbers, mean=self.mean_, scale=None)[:])
