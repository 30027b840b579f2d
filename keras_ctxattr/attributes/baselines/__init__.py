"""Hashing methods on fixed features, which learnt attributes are compared with."""

from keras_ctxattr.attributes.baselines.base import FeatureHashing
from keras_ctxattr.attributes.baselines.deep import DeepHashing
from keras_ctxattr.attributes.baselines.linear import ITQ, LSH, PCAH
from keras_ctxattr.attributes.baselines.spectral import SpectralHashing

BASELINES: dict[str, type[FeatureHashing]] = {
    "lsh": LSH,
    "pcah": PCAH,
    "sh": SpectralHashing,
    "itq": ITQ,
    "dh": DeepHashing,
}
"""From the name a user types to the class."""

__all__ = ["BASELINES", "ITQ", "LSH", "PCAH", "DeepHashing", "FeatureHashing", "SpectralHashing"]
