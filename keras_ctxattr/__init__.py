"""Visual features and binary attributes from unlabelled images, for TensorFlow and Keras 3.

Importing this package costs milliseconds: TensorFlow is loaded when a name that needs it is used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it; a module's own name gives the module.
_NAMES = {
    "ContextPredictor": "context.predictor",
    "GridConfig": "data.grids",
    "grid_batches": "data.grids",
    "Manifest": "data.manifest",
    "scan_images": "data.manifest",
    "load_images": "data.images",
    "decode_image": "data.decode",
    "PatchTable": "data.patches",
    "cut_patches": "data.patches",
    "FeatureTable": "features",
    "extract_features": "features",
    "DiscriminativeClustering": "clustering",
    "KMeansClustering": "clustering",
    "AttributeHasher": "attributes.hasher",
    "triplet_batches": "attributes.batches",
    "HammingIndex": "search",
}
_MODULES = (
    "attributes",
    "backbones",
    "clustering",
    "context",
    "data",
    "export",
    "features",
    "layers",
    "pictures",
    "runs",
    "search",
)

__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name in _NAMES:
        return getattr(importlib.import_module(f"keras_ctxattr.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_ctxattr.{name}")
    raise AttributeError(
        f"`keras_ctxattr` has no attribute {name!r}; it has: {', '.join(sorted(__all__))}"
    )


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted([*__all__, "__version__"])
