"""All stages in a row: from a folder of photographs to a module with attributes of them.

    pipeline/
      attributes.py    clusters of feature vectors, and attributes of these clusters
      photographs.py   the same of whole photographs, with the module that gives their codes
      plan.py          how long each stage will take here, and what fits into the time
      pictures.py      what codes find, and what attributes tell apart
      learn.py         every stage: context, patch clusters, photographs
      exporting.py     the module of any of these runs, for a server, as ONNX

What the stages are is theirs; what they hand on to each other, and in which folder, is here.
"""

import importlib
from typing import Any

_NAMES = {
    "export_learnt": "exporting",
    "learn_from_photographs": "learn",
    "learn_photo_attributes": "photographs",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _NAMES:
        raise AttributeError(
            f"`keras_ctxattr.pipeline` has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"keras_ctxattr.pipeline.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
