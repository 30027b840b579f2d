"""From patches to feature vectors: descriptors, streaming extraction, and the table that results.

    features/
      table.json         what was described and how, versions, rows
      descriptor.npz     the descriptor and what it learnt; absent for a module
      00000/             a shard: image_ids.npy, boxes.npy, vectors.npy
      ...

Names are imported on first use: processes that only describe patches do not load TensorFlow.
"""

import importlib
from typing import Any

_NAMES = {
    "DAISY": "descriptors",
    "DESCRIPTORS": "descriptors",
    "HOG": "descriptors",
    "ColourHistogram": "descriptors",
    "FeatureTable": "table",
    "FisherVectors": "descriptors",
    "ModuleFeatures": "descriptors.module",
    "describe_batch": "descriptors",
    "describe_photographs": "photographs",
    "extract_features": "extract",
    "load_descriptor": "descriptors",
    "make_descriptor": "descriptors",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _NAMES:
        raise AttributeError(
            f"`keras_ctxattr.features` has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"keras_ctxattr.features.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
