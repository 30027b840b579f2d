"""The features of an exported module, in the form of a descriptor."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_ctxattr.export import read_module
from keras_ctxattr.features.descriptors.base import Descriptor


@dataclasses.dataclass(frozen=True)
class ModuleFeatures(Descriptor):
    """Describes patches by `module(pixels / 255)`, one vector a patch.

    Args:
        folder: A folder that `ctxattr export` or `export_module` wrote.
        size: Side of a patch in pixels, at least the module's; None takes the module's.
        normalize: Whether vectors are divided by their lengths.

    Raises:
        ValueError: If the folder holds no module, or the patches are too small for it.
    """

    parallel: ClassVar[bool] = False  # TensorFlow uses all cores by itself

    folder: str
    size: int | None = None  # type: ignore[assignment]
    normalize: bool = False

    def __post_init__(self) -> None:
        """Reads what the module needs."""
        smallest = int(read_module(self.folder)["input"]["min_side"])
        size = smallest if self.size is None else self.size
        object.__setattr__(self, "size", size)
        if size < smallest:
            raise ValueError(
                f"Patches must have at least the module's {smallest} pixels a side; cut larger "
                f"ones. Received: size={size} for {self.folder}"
            )

    @functools.cached_property
    def num_features(self) -> int:
        """Length of a vector."""
        return int(read_module(self.folder)["num_features"])

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The digests of the module's description and weights, wherever it lies."""
        digest = hashlib.blake2b(digest_size=16)
        for path in [
            Path(self.folder) / "module.json",
            *sorted(Path(self.folder).rglob("*.data-*")),
        ]:
            digest.update(path.read_bytes())
        return {
            "class": "ModuleFeatures",
            "size": self.size,
            "normalize": self.normalize,
            "module": digest.hexdigest(),
        }

    @functools.cached_property
    def _module(self) -> Any:
        return tf.saved_model.load(self.folder)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches uint8 `[b, size, size, 3]`: float32 `[b, num_features]`."""
        vectors = self._module(tf.cast(pixels, tf.float32) / 255.0)
        if self.normalize:
            vectors = tf.math.l2_normalize(vectors, axis=1)
        return vectors.numpy()

    def save(self, path: str | Path) -> None:
        """Refuses: the module's folder is what is kept."""
        raise ValueError(
            f"A module is kept as its own folder; copy that instead. Received: {self.folder} "
            f"to be saved as {path}"
        )
