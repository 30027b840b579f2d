"""What all descriptors have in common. Nothing here or in `DESCRIPTORS` loads TensorFlow."""

from __future__ import annotations

import abc
import json
import zipfile
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from keras_ctxattr.runs.writing import json_types, write_atomically


class Descriptor(abc.ABC):
    """Gives every patch a feature vector that depends on its pixels alone.

    Subclasses are dataclasses whose fields are their settings; what `fit` learns is kept in
    attributes that `_state` and `_set_state` know.

    Attributes:
        size: Side of a patch in pixels.
        parallel: Whether several processes may share the work.
    """

    size: int
    parallel: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def num_features(self) -> int:
        """Length of a vector."""

    @property
    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that the vectors depend on, learnt or chosen; JSON types."""

    @abc.abstractmethod
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches.

        Args:
            pixels: uint8 `[b, size, size, 3]`, RGB.

        Returns:
            Float32 `[b, num_features]`, finite.
        """

    def fit(self, pixels: np.ndarray, seed: int = 0) -> Self:
        """Learns what has to be learnt: nothing, unless a subclass says so.

        Args:
            pixels: uint8 `[n, size, size, 3]`, a sample of the patches.
            seed: Seed of all draws.
        """
        del pixels, seed
        return self

    def check_fitted(self) -> None:
        """Raises `ValueError` if something has to be learnt first."""
        if self.config.get("state", "") is None:
            raise ValueError(
                "A descriptor that learns must be fitted before it describes: call `fit` with a "
                f"sample of the patches, or `load`. Received: {self!r}, which has learnt nothing"
            )

    def save(self, path: str | Path) -> None:
        """Writes the settings and what was learnt as `.npz`, without pickle."""
        with write_atomically(path) as partial, partial.open("wb") as file:
            # Without pickle by what it holds: the switch is younger than the oldest numpy allowed.
            arrays: dict[str, Any] = {"config": json.dumps(self.config), **self._state()}
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file holds no descriptor of this class.
        """
        config, state = read_descriptor(path)
        name = config.pop("class", None)
        config.pop("state", None)
        if name != cls.__name__:
            raise ValueError(
                f"The file must hold a descriptor of class {cls.__name__}; name another, or load "
                f"it by its own class. Received: {path} with {name}"
            )
        descriptor = cls(**config)
        descriptor._set_state(state)
        return descriptor

    def _state(self) -> dict[str, np.ndarray]:
        """Gives what was learnt."""
        return {}

    def _set_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes what `_state` gave."""
        if state:
            raise ValueError(
                f"{type(self).__name__} learns nothing. Received: {', '.join(sorted(state))}"
            )


def read_descriptor(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Gives the configuration and the learnt arrays that `Descriptor.save` wrote.

    Raises:
        ValueError: If the file is not one of these.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        return json.loads(str(arrays.pop("config"))), arrays
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            "A descriptor must be an .npz file that `Descriptor.save` wrote; name another. "
            f"Received: {path}: {error}"
        ) from error


def describe_batch(descriptor: Descriptor, pixels: np.ndarray, first_row: int = 0) -> np.ndarray:
    """Describes some patches, and vouches for the result: the one function that extraction calls.

    It knows nothing of files, processes or progress, so that any engine can call it.

    Args:
        descriptor: Fitted, if it has to be.
        pixels: uint8 `[b, size, size, 3]`.
        first_row: Number of the first patch in its table, for messages.

    Returns:
        Float32 `[b, num_features]`, finite.

    Raises:
        ValueError: If the pixels are of another size or dtype, or a vector is not finite.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (descriptor.size, descriptor.size, 3):
        raise ValueError(
            f"Patches must be uint8 [b, {descriptor.size}, {descriptor.size}, 3]; make the "
            "descriptor for their size. "
            f"Received: {pixels.dtype} {list(pixels.shape)} for {type(descriptor).__name__}"
        )
    vectors = np.asarray(descriptor(pixels), np.float32)
    if vectors.shape != (len(pixels), descriptor.num_features):
        raise ValueError(
            f"{type(descriptor).__name__} must give [{len(pixels)}, {descriptor.num_features}], "
            f"as its `num_features` says. Received: {list(vectors.shape)}"
        )
    check_finite(vectors, first_row)
    return vectors


def check_finite(vectors: np.ndarray, first_row: int) -> None:
    """Refuses NaN and infinity, naming the row."""
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise ValueError(
            "Features must be finite; leave the patch out, or mend the descriptor (float16 holds "
            "up to 65504). "
            f"Received: NaN or infinity in row {first_row + int(wrong[0])} ({len(wrong)} in all "
            f"of these {len(vectors)})"
        )


def settings_of(descriptor: Any) -> dict[str, Any]:
    """Gives a descriptor's class and fields as JSON types."""
    fields = {name: getattr(descriptor, name) for name in descriptor.__dataclass_fields__}
    return json_types({"class": type(descriptor).__name__, **fields})
