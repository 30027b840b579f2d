"""A module that also gives binary attributes of an image, and their packed codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.data.images import resize_image
from keras_ctxattr.export.module import FeatureModule, Step, signature


class AttributeModule(FeatureModule):
    """A `FeatureModule` with attributes. `module(images)` gives the features that they are of.

    - `attributes(images)`: float32 `[batch, num_attributes]` scores; a bit is set above 0.
    - `codes(images)`: uint8 `[batch, num_attributes / 8]`, in the order of `np.packbits`.
    - `describe_bytes(encoded)`: string `[batch]`, image files -> `features`, `attributes` and
      `codes` of each, by one pass; `encode_bytes(encoded)` gives the codes alone. Each file is
      brought to what attributes were learnt of: `unit` "patch" takes the largest square in its
      middle, scaled to the patch size; "image" scales all of it to about 300 000 pixels.
    - `describe(images)`: the same three of images.
    - `serve_bytes(encoded)`: the features of `describe_bytes`; the signature of this name gives all
      that it gives.

    Args:
        network: fully convolutional, to unit vectors `[batch, rows, columns, num_features]`.
        steps: functions from pixels on the 0-255 scale to what `network` takes, in order.
        patch_size: smallest side of an image in pixels.
        projection: float32 `[num_features, num_attributes]`.
        offsets: float32 `[num_attributes]`, added to the projections.
        unit: "patch" or "image".
    """

    def __init__(
        self,
        network: keras.Model,
        steps: Sequence[Step],
        patch_size: int,
        *,
        projection: np.ndarray,
        offsets: np.ndarray,
        unit: str,
    ) -> None:
        super().__init__(network, steps, patch_size)
        self._projection = tf.Variable(projection, trainable=False, name="projection")
        self._offsets = tf.Variable(offsets, trainable=False, name="offsets")
        self._unit = unit

    @tf.function(autograph=False)
    def attributes(self, images: tf.Tensor) -> tf.Tensor:
        """Gives attribute scores of images."""
        return self._score(self(images, training=False))

    @tf.function(autograph=False)
    def codes(self, images: tf.Tensor) -> tf.Tensor:
        """Gives the packed codes of images."""
        return pack(self.attributes(images) > 0)

    @tf.function(autograph=False)
    def encode_bytes(self, encoded: tf.Tensor) -> tf.Tensor:
        """Gives the packed codes of image files."""
        return self.describe_bytes(encoded)["codes"]

    def _specs(self) -> dict[str, tf.TensorSpec]:
        num_attributes = self._projection.shape[1]
        return {
            **super()._specs(),
            "attributes": tf.TensorSpec([num_attributes], tf.float32),
            "codes": tf.TensorSpec([num_attributes // 8], tf.uint8),
        }

    def _describe(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = self._score(features)
        return {"features": features, "attributes": scores, "codes": pack(scores > 0)}

    def _score(self, features: tf.Tensor) -> tf.Tensor:
        return tf.matmul(features, self._projection) + self._offsets

    def _prepare(self, image: tf.Tensor) -> tf.Tensor:
        if self._unit == "patch":
            return middle_patch(image, self._patch_size)
        return super()._prepare(image)

    def trace(self) -> dict[str, Any]:
        """Traces every function for any number of images of any size, and gives the signatures."""
        images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="encoded")
        found = super().trace()
        for function in (self.attributes, self.codes):
            function.get_concrete_function(images)
        self.encode_bytes.get_concrete_function(encoded)
        return {
            **found,
            "attributes": signature(self.attributes, images, "attributes"),
            "codes": signature(self.codes, images, "codes"),
            "encode_bytes": signature(self.encode_bytes, encoded, "codes"),
        }


def read_projection(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Gives what turns the features of a module into attribute scores.

    Args:
        folder: of a module with attributes.

    Returns:
        (weights float32 `[num_features, num_attributes]`, offsets float32 `[num_attributes]`).
    """
    loaded = tf.saved_model.load(str(folder))
    return loaded._projection.numpy(), loaded._offsets.numpy()


def pack(bits: tf.Tensor) -> tf.Tensor:
    """Packs bits bool `[batch, num_bits]` into uint8 `[batch, num_bits / 8]`, as `np.packbits`."""
    octets = tf.reshape(tf.cast(bits, tf.int32), [-1, bits.shape[1] // 8, 8])
    weights = tf.constant([128, 64, 32, 16, 8, 4, 2, 1])
    return tf.cast(tf.reduce_sum(octets * weights, axis=2), tf.uint8)


def middle_patch(image: tf.Tensor, size: int) -> tf.Tensor:
    """Gives the largest square in an image's middle, scaled, as `cut_patches` cuts unit "image".

    Args:
        image: uint8 `[height, width, 3]`.
        size: side in pixels.

    Returns:
        float32 `[size, size, 3]`, whole numbers 0 to 255.
    """
    sides = tf.shape(image)[:2]
    shorter = tf.cast(tf.reduce_min(sides), tf.float64)
    scaled = tf.cast(tf.round(tf.cast(sides, tf.float64) * (size / shorter)), tf.int32)
    scaled = tf.maximum(scaled, size)
    pixels = tf.cond(
        tf.reduce_all(sides == scaled),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.floor(resize_image(image, scaled) + 0.5),
    )
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return pixels[top : top + size, left : left + size]
