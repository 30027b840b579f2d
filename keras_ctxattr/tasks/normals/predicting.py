"""Surface normals of a photograph, by what a run has learnt."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.tasks.detection.transfer import load_detection_model
from keras_ctxattr.tasks.normals import network as _network  # Keras loads what is imported
from keras_ctxattr.tasks.normals.frames import (
    scale_normals,
    scale_photograph,
    scaled_shape,
)

KIND = "normals"
MODEL = "model.keras"
BASELINES = "baselines.npz"


class NormalsPredictor:
    """Predicts the surface normals of photographs.

    Args:
        model: as `normals_network` makes it, trained.
        longer_side: pixels that photographs are scaled to before they reach it.

    Example:
        predictor = load_normals_model("runs/normals")
        normals = predictor.predict(photograph)  # uint8 [height, width, 3]
    """

    def __init__(self, model: keras.Model, *, longer_side: int) -> None:
        self.model, self.longer_side = model, longer_side
        self._call = tf.function(_Caller(model), reduce_retracing=True, autograph=False)

    def predict(self, photograph: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
        """Gives the normal of what each pixel shows.

        Args:
            photograph: uint8 `[height, width, 3]`, RGB.
            shape: another (height, width) to give them at; the photograph's own if None.

        Returns:
            float32 `[height, width, 3]`, of length 1, towards the camera in its coordinates: x to
            the right, y down, z forward.

        Raises:
            ValueError: if it is no such photograph.
        """
        pixels = np.asarray(photograph)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(
                "A photograph must be uint8 [height, width, 3], RGB. "
                f"Received: {pixels.dtype} {list(pixels.shape)}"
            )
        small = scale_photograph(pixels, scaled_shape(pixels.shape, self.longer_side))
        normals = self._call(tf.constant(small[None]))[0].numpy()
        large = scale_normals(normals, shape or (pixels.shape[0], pixels.shape[1]))
        # Opposite normals meet at no length: take the camera's direction there.
        large[~large.any(axis=-1)] = _network.TOWARDS_CAMERA
        return large


class _Caller:
    """A model as a function that `tf.function` may trace anew for each size."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def __call__(self, photographs: tf.Tensor) -> tf.Tensor:
        return self.model(tf.cast(photographs, tf.float32), training=False)


def load_normals_model(folder: str | Path) -> NormalsPredictor:
    """Reads what a finished run of `training.finetune_normals` has learnt.

    Raises:
        RunError: if the run is not finished, or of another kind.
    """
    run = finished_run(folder)
    model = load_detection_model(run.path / MODEL)
    return NormalsPredictor(model, longer_side=run.config["recipe"]["longer_side"])


def finished_run(folder: str | Path) -> Run:
    """Opens a finished run to read it.

    Raises:
        RunError: if there is none.
    """
    run: Any = Run.read(folder, kind=KIND)
    if not run.finished:
        raise RunError(f"{run.path} is not finished: give the training command again.")
    return run
