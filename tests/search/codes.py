"""Codes to search, clustered as those of photographs are, or with nothing to tell them apart."""

import numpy as np


def make_codes(count, num_bytes, seed=0):
    """Random codes of few different bytes, so that there are many ties."""
    return np.random.default_rng(seed).choice([0, 1, 3, 255], (count, num_bytes)).astype(np.uint8)


def random_codes(count, num_bytes=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, num_bytes), np.uint8)


def clustered_codes(count, num_bytes=8, *, num_clusters=50, flipped=0.1, seed=0):
    """Codes of clusters: those of their centres, with a share of the bits flipped."""
    centres = random_codes(num_clusters, num_bytes, seed=1234)
    generator = np.random.default_rng(seed)
    flips = np.packbits(generator.random((count, 8 * num_bytes)) < flipped, axis=1)
    return centres[generator.integers(0, num_clusters, count)] ^ flips


def sort_all(codes, queries, count):
    """Gives (distances, rows) as sorting all distances does; at one distance by row."""
    every = np.bitwise_count(queries[:, None] ^ codes[None]).sum(axis=2).astype(np.int32)
    order = np.argsort(every, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(every, order, axis=1), order
