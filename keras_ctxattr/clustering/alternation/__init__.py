"""Clustering and network training in turn, from images to clusters, in a run folder."""

from keras_ctxattr.clustering.alternation.reading import (
    ClusterRound,
    open_images,
    open_round,
    open_rounds,
)
from keras_ctxattr.clustering.alternation.recipe import AlternationRecipe
from keras_ctxattr.clustering.alternation.rounds import TooFewClustersError, alternate_clusters

__all__ = [
    "AlternationRecipe",
    "ClusterRound",
    "TooFewClustersError",
    "alternate_clusters",
    "open_images",
    "open_round",
    "open_rounds",
]
