"""What a prediction that does not look at the photograph is worth."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_ctxattr.tasks.normals.frames import LabelledFrames, scale_normals

Predict = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""From a photograph, uint8 `[height, width, 3]`, and the (rows, columns) wanted to unit normals,
float32 `[rows, columns, 3]`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeanNormals:
    """Mean normals of frames.

    Attributes:
        everywhere: float32 `[3]`, the direction of the mean of all normals.
        by_position: float32 `[height, width, 3]`, the same of each pixel by itself; where no frame
            has a normal, `everywhere`.
    """

    everywhere: np.ndarray
    by_position: np.ndarray

    @classmethod
    def of(cls, frames: LabelledFrames) -> "MeanNormals":
        """Takes the means."""
        sums = np.zeros(frames.normals.shape[1:], np.float64)
        for normals in frames.normals:  # one at a time: float64 of all would not fit
            sums += normals
        everywhere = _direction(sums.sum(axis=(0, 1)), (0.0, 0.0, -1.0))
        return cls(everywhere=everywhere, by_position=_direction(sums, everywhere))

    def save(self, path: Path) -> None:
        """Writes a file that `load` reads."""
        with path.open("wb") as file:  # `savez` would add a suffix to a name
            np.savez_compressed(file, everywhere=self.everywhere, by_position=self.by_position)

    @classmethod
    def load(cls, path: Path) -> "MeanNormals":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(everywhere=stored["everywhere"], by_position=stored["by_position"])

    def predictors(self) -> dict[str, Predict]:
        """Gives both as predictions of any photograph, by name."""
        return {
            "mean": lambda _, shape: np.broadcast_to(self.everywhere, (*shape, 3)),
            "mean_by_position": lambda _, shape: scale_normals(self.by_position, shape),
        }


def _direction(sums: np.ndarray, otherwise: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Gives the directions of vectors, and another one for those of no length."""
    length = np.linalg.norm(sums, axis=-1, keepdims=True)
    found = np.where(length > 1e-3, sums / np.maximum(length, 1e-3), otherwise)
    return found.astype(np.float32)
