"""TensorBoard event files without TensorBoard.

`tf.summary.scalar` and `image` need the package `tensorboard`, which TensorFlow no longer brings.
`tf.summary.write` does not; what those functions add is the description of the plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf


def write_scalars(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Appends one value per tag, into a file of its own: a killed run then loses nothing."""
    metadata = _metadata("scalars", "DATA_CLASS_SCALAR")
    _write(folder, step, {tag: np.float32(value) for tag, value in values.items()}, metadata)


def write_image(folder: Path, step: int, tag: str, image: np.ndarray) -> None:
    """Appends an image, uint8 `[height, width, 3]`."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    height, width = (str(side).encode() for side in image.shape[:2])
    values = {tag: tf.constant([width, height, encoded.tobytes()])}
    _write(folder, step, values, _metadata("images", "DATA_CLASS_BLOB_SEQUENCE"))


def _metadata(plugin: str, data_class: str) -> tf.compat.v1.SummaryMetadata:
    return tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin),
        data_class=data_class,
    )


def _write(
    folder: Path, step: int, values: Mapping[str, object], metadata: tf.compat.v1.SummaryMetadata
) -> None:
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=step):
        for tag, value in values.items():
            tf.summary.write(tag, value, metadata=metadata)
    writer.close()
