"""Binary attributes: learnt from clusters by a hashing loss, kept as packed codes.

Names are imported on first use: codes and the baselines do not load TensorFlow.

Reference:
    Huang, Loy, Tang 2016, "Unsupervised Learning of Discriminative Attributes and Visual
    Representations", section 3.2.
"""

import importlib
from typing import Any

_NAMES = {
    "AttributeHasher": "hasher",
    "AttributeRecipe": "learning",
    "bit_metrics": "codes",
    "bit_statistics": "codes",
    "encode_samples": "learning",
    "encode_scores": "codes",
    "hamming": "codes",
    "initial_projection": "projection",
    "learn_attributes": "learning",
    "load_hasher": "learning",
    "neighbour_batches": "batches",
    "pack_bits": "codes",
    "score_samples": "learning",
    "triplet_batches": "batches",
    "unpack_bits": "codes",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _NAMES:
        raise AttributeError(
            f"`keras_ctxattr.attributes` has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"keras_ctxattr.attributes.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
