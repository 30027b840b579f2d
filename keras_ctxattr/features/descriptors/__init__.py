"""First features: what describes a patch before anything is learnt, or by a module.

A descriptor is called with uint8 `[b, size, size, 3]` and gives float32 `[b, num_features]`; `fit`
learns what there is to learn, `config` identifies it, `save` and `load` keep it as `.npz`. Nothing
here loads TensorFlow (`ModuleFeatures` is in `descriptors.module`), so that processes start fast.
"""

from __future__ import annotations

from pathlib import Path

from keras_ctxattr.features.descriptors.base import Descriptor, describe_batch, read_descriptor
from keras_ctxattr.features.descriptors.colour import ColourHistogram
from keras_ctxattr.features.descriptors.daisy import DAISY
from keras_ctxattr.features.descriptors.fisher import FisherVectors
from keras_ctxattr.features.descriptors.hog import HOG

DESCRIPTORS: dict[str, type[Descriptor]] = {
    "hog": HOG,
    "daisy": DAISY,
    "fisher": FisherVectors,
    "colour": ColourHistogram,
}
"""From the name a user types to the class; each is made with `size` alone."""

__all__ = [
    "DAISY",
    "DESCRIPTORS",
    "HOG",
    "ColourHistogram",
    "Descriptor",
    "FisherVectors",
    "describe_batch",
    "load_descriptor",
    "make_descriptor",
    "read_descriptor",
]


def make_descriptor(name: str | Path, size: int) -> Descriptor:
    """Makes a descriptor from what a user typed.

    Args:
        name: `"hog"`, `"daisy"`, `"fisher"`, `"colour"`, or the folder of an exported module.
        size: Side of a patch in pixels.

    Returns:
        The descriptor, not fitted yet.

    Raises:
        ValueError: If it is neither a known name nor a module, or cannot describe such patches.
    """
    if str(name) in DESCRIPTORS:
        return DESCRIPTORS[str(name)](size=size)  # type: ignore[call-arg]
    if not (Path(name) / "module.json").is_file():
        raise ValueError(
            f"Features must be one of {', '.join(DESCRIPTORS)}, or the folder of a module that "
            f"`ctxattr export` wrote. Received: {name}"
        )
    from keras_ctxattr.features.descriptors.module import ModuleFeatures

    return ModuleFeatures(folder=str(name), size=size)


def load_descriptor(path: str | Path) -> Descriptor:
    """Reads a descriptor of any of the classes in `DESCRIPTORS` that was saved as `.npz`.

    Raises:
        ValueError: If the file holds none.
    """
    found = read_descriptor(path)[0].get("class")
    classes = {kind.__name__: kind for kind in DESCRIPTORS.values()}
    if found not in classes:
        raise ValueError(
            f"The file must hold one of {', '.join(classes)}. Received: {path} with {found}"
        )
    return classes[found].load(path)
