"""Errors of predicted normals over the valid pixels of frames."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ctxattr.data.rgbd import RgbdFrame, RgbdSource
from keras_ctxattr.tasks.normals.baselines import Predict
from keras_ctxattr.tasks.normals.frames import RADIUS, Progress, has_normal, normals_of_frame
from keras_ctxattr.tasks.normals.metrics import angular_errors, summarize_errors


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoredFrame:
    """A frame with what was predicted.

    Attributes:
        frame: as it was read.
        normals: float32 `[rows, columns, 3]`, of the depth, 0 where there is none.
        predicted: float32 `[rows, columns, 3]`.
        errors: float32 `[rows, columns]`, degrees; NaN where there is no normal.
    """

    frame: RgbdFrame
    normals: np.ndarray
    predicted: np.ndarray
    errors: np.ndarray


def score_frame(frame: RgbdFrame, predict: Predict, *, radius: int = RADIUS) -> ScoredFrame:
    """Predicts the normals of a frame at its depth's size, and compares."""
    normals = normals_of_frame(frame, radius=radius)
    predicted = predict(frame.pixels, frame.depth.shape)
    errors = angular_errors(predicted, normals).astype(np.float32)
    return ScoredFrame(frame=frame, normals=normals, predicted=predicted, errors=errors)


def score_frames(
    source: RgbdSource,
    rows: Sequence[int],
    predictors: Mapping[str, Predict],
    *,
    radius: int = RADIUS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Gives the measures of NYUv2 over the valid pixels of all frames together.

    One frame is in memory at a time, and from then on four bytes of each of its valid pixels for
    each predictor, for the median.

    Args:
        source: of the frames.
        rows: which ones.
        predictors: by name.
        radius: pixels to each side that the normal of a depth is fitted to.
        progress: called with (frames done, all of them).

    Returns:
        Name of a predictor -> its measures, see `summarize_errors`; and `frames`, of each frame
        `name`, `num_valid` pixels and the mean error of every predictor.

    Raises:
        ValueError: if no frame has a valid pixel.
    """
    errors: dict[str, list[np.ndarray]] = {name: [] for name in predictors}
    told = []
    for done, row in enumerate(rows, start=1):
        frame = source.read(row)
        normals = normals_of_frame(frame, radius=radius)
        is_valid = has_normal(normals)
        of_frame: dict[str, Any] = {"name": frame.name, "num_valid": int(is_valid.sum())}
        for name, predict in predictors.items():
            predicted = predict(frame.pixels, frame.depth.shape)
            found = angular_errors(predicted[is_valid], normals[is_valid]).astype(np.float32)
            errors[name].append(found)
            of_frame[name] = float(found.mean(dtype=np.float64)) if found.size else None
        told.append(of_frame)
        if progress is not None:
            progress(done, len(rows))
    values: dict[str, Any] = {
        name: summarize_errors(np.concatenate(found) if found else np.zeros(0))
        for name, found in errors.items()
    }
    return {**values, "frames": told}
