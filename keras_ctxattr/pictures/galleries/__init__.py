"""Clusters to look at: one picture of many, and a page of cards, the most discriminative first."""

from keras_ctxattr.pictures.galleries.cards import ClusterCard, cluster_sheet, rank_clusters
from keras_ctxattr.pictures.galleries.page import Words, write_gallery

__all__ = ["ClusterCard", "Words", "cluster_sheet", "rank_clusters", "write_gallery"]
