"""What an index keeps of an image: its code, its attribute scores, its features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.manifest.headers import detect_format
from keras_ctxattr.data.manifest.inspection import explain_undecodable
from keras_ctxattr.export import read_module
from keras_ctxattr.jobs.workers import usable_cores


def count_threads() -> int:
    """Gives the threads that one computation uses in this process."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(usable_cores())


def set_threads(num_threads: int) -> None:
    """Has one computation use so many threads, in a process that has computed nothing yet.

    Raises:
        ValueError: If it has, with another number: a script that is loaded anew in every process
            did so.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    except RuntimeError as error:
        raise ValueError(
            "A worker must load its job before it computes anything; put what your script does "
            'behind `if __name__ == "__main__":`. Received: TensorFlow at work already, with '
            f"{count_threads()} threads instead of {num_threads}"
        ) from error


class UndecodableError(ValueError):
    """An image that the module cannot describe; the message is the reason, a clause."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """One image as an index knows it.

    Attributes:
        code: Uint8 `[num_attributes / 8]`, packed as `np.packbits` does.
        scores: Float32 `[num_attributes]`; a bit is set where its score is above 0.
        vector: Float32 `[num_features]`, the features at unit length.
    """

    code: np.ndarray
    scores: np.ndarray
    vector: np.ndarray


def read_describing(folder: str | Path) -> dict[str, Any]:
    """Gives `module.json` of a module with attributes, without loading it.

    Raises:
        ValueError: If it is no module, or one without attributes.
    """
    about = read_module(folder)
    if "attributes" not in about:
        raise ValueError(
            "A module must have attributes, whose bits are the codes of an index; `ctxattr "
            f"learn` makes one. Received: {folder}, which gives features alone"
        )
    return about


class ModuleDescriber:
    """Describes the contents of image files by a module with attributes, one at a time.

    It may be called from several threads. The same bytes give the same description, to the last
    bit, as `serve_bytes` of the module.

    Args:
        folder: Of the module, as `export_module` or `ctxattr learn` writes it.

    Raises:
        ValueError: If it is no module, or one without attributes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.about = read_describing(folder)
        self._module = tf.saved_model.load(str(folder))
        if not hasattr(self._module, "describe_bytes"):
            raise ValueError(
                "A module must have `describe_bytes`, which those of earlier versions lack; export "
                f"it again. Received: {folder}"
            )

    @property
    def num_attributes(self) -> int:
        """Bits of a code."""
        return int(self.about["attributes"]["num_attributes"])

    def describe(self, encoded: bytes) -> Description:
        """Describes one image file.

        Args:
            encoded: Its contents, of a format that `decode_image` reads.

        Raises:
            UndecodableError: If it cannot be decoded, or is too thin.
        """
        try:
            found = self._module.describe_bytes(tf.constant([encoded]))
        except tf.errors.OpError as error:
            name = detect_format(encoded[:32]) or "image"
            raise UndecodableError(explain_undecodable(name, error)) from error
        features, scores, code = (
            found[name].numpy()[0] for name in ("features", "attributes", "codes")
        )
        length = float(np.linalg.norm(features))
        if not np.isfinite(length) or not np.isfinite(scores).all():
            raise UndecodableError("its features are not finite")
        return Description(code=code, scores=scores, vector=features / max(length, 1e-12))


def decode_pixels(encoded: bytes) -> np.ndarray:
    """Gives the upright pixels of an image file, uint8 `[height, width, 3]`.

    Raises:
        UndecodableError: If it cannot be decoded.
    """
    try:
        return decode_image(tf.constant(encoded)).numpy()
    except tf.errors.OpError as error:
        name = detect_format(encoded[:32]) or "image"
        raise UndecodableError(explain_undecodable(name, error)) from error
