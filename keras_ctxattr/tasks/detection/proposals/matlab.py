"""Proposals that others computed, in MATLAB's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io

from keras_ctxattr.tasks.detection.proposals.table import Proposals


def read_matlab_proposals(path: str | Path, names: Sequence[str]) -> Proposals:
    """Reads proposals as the authors of Fast R-CNN published them (`voc_2007_trainval.mat`).

    Args:
        path: A file with the cell arrays `boxes`, (top, left, bottom, right) of pixels counted from
            1, both ends included, and `images`, the names they belong to.
        names: Of the images wanted, without suffix ("000005"), in the order wanted.

    Returns:
        The proposals of these images, in the order of the file: edges counted from 0.

    Raises:
        ValueError: If the file cannot be read or lacks an image.

    Reference:
        Girshick 2015, "Fast R-CNN", and the reader in its code, `datasets/pascal_voc.py`.
    """
    known = dict(zip(*_read_cells(path), strict=True))
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            "Proposals must be there for every image; name the file of the same image set. "
            f"Received: {path} with {len(known)} images, without {len(missing)}: {missing[0]}"
        )
    return Proposals.stack([known[name] for name in names])


def _read_cells(path: str | Path) -> tuple[list[str], list[np.ndarray]]:
    """Gives the names of all images in the file, and their boxes as edges, float32 `[n, 4]`."""
    try:
        content = scipy.io.loadmat(path, variable_names=["boxes", "images"])
        names = [str(np.ravel(cell)[0]) for cell in content["images"].ravel()]
        boxes = [_to_edges(cell) for cell in content["boxes"].ravel()]
        if len(names) != len(boxes):
            raise ValueError(f"{len(names)} names and {len(boxes)} boxes")
    except Exception as error:  # damaged bytes fail in scipy in many ways
        lines = str(error).splitlines() or [type(error).__name__]
        reason = f"no {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise ValueError(
            "Proposals of MATLAB must be a whole .mat file (before version 7.3) with the cell "
            f"arrays `boxes` and `images`, of one length. Received: {path}: {reason}"
        ) from error
    return names, boxes


def _to_edges(cell: np.ndarray) -> np.ndarray:
    top, left, bottom, right = np.reshape(cell, (-1, 4)).astype(np.float32).T
    return np.stack([left - 1, top - 1, right, bottom], axis=1)
