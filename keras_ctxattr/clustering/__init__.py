"""Clusters of unlabelled images: discriminative clustering, and k-means with the same contract.

Names are imported on first use: `metrics` does not load TensorFlow.

Reference:
    Singh, Gupta, Efros 2012, "Unsupervised Discovery of Mid-Level Discriminative Patches"; Huang,
    Loy, Tang 2016, section 3.1.
"""

import importlib
from typing import Any

_NAMES = {
    "AlternationRecipe": "alternation",
    "ClusterRound": "alternation",
    "ClusterTable": "table",
    "DiscriminativeClustering": "discriminative",
    "KMeansClustering": "kmeans",
    "LinearSVMs": "svm",
    "TooFewClustersError": "alternation",
    "alternate_clusters": "alternation",
    "fit_linear_svms": "svm",
    "open_images": "alternation",
    "open_round": "alternation",
    "open_rounds": "alternation",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _NAMES:
        raise AttributeError(
            f"`keras_ctxattr.clustering` has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"keras_ctxattr.clustering.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
