"""The object that a reusable SavedModel holds, and its graphs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import resize_image

Step = Callable[[tf.Tensor], tf.Tensor]

PHOTO_PIXELS = 300_000
"""About how many pixels an encoded photograph is scaled to: the middle of what training draws."""

MAX_ASPECT = 100
"""Longer side of an encoded photograph divided by its shorter one, at most: it bounds memory."""


class FeatureModule(tf.train.Checkpoint):
    """What is saved: `tf.saved_model.load` gives back an object with these attributes.

    A `tf.train.Checkpoint` and not a Keras model, so that it loads where there is no Keras 3.

    - `module(images, training=False)`: float32 `[batch, height, width, 3]` in [0, 1] -> float32
      `[batch, num_features]`. For images of the patch size these are the backbone's features; for
      larger ones the mean of `feature_map` over all positions. An image smaller than a patch is an
      error: it would have to be enlarged or padded, which is for the caller to choose.
      `training=True` normalises by the batch and updates the running statistics.
    - `serve`, `train`: the same with `training` fixed, as `keras.layers.TFSMLayer` looks for them.
    - `feature_map(images)`: float32 `[batch, rows, columns, num_features]`.
    - `serve_bytes(encoded)`: string `[batch]`, image files of any size, JPEG and PNG mixed; each is
      decoded upright, scaled to about 300 000 pixels, or until its shorter side is a patch where
      that is more (a panorama), then as above. One file that cannot be decoded, or whose sides
      differ more than 100 times, is an error for the whole call: no features are better than wrong
      ones, and a graph has no third way. Who serves files of strangers sends them one by one.
    - `describe(images)`, `describe_bytes(encoded)`: the same by name, `features`; a module with
      attributes adds more, of the same pass.
    - `variables`, `trainable_variables`, `regularization_losses`: what TF-Hub-style users expect.

    Args:
        network: fully convolutional, float32 `[batch, height, width, 3]` -> `[batch, rows, columns,
            num_features]`.
        steps: functions from pixels on the 0-255 scale to what `network` takes, in order.
        patch_size: smallest side of an image in pixels.
    """

    def __init__(self, network: keras.Model, steps: Sequence[Step], patch_size: int) -> None:
        super().__init__()
        # Neither the network nor the steps may become attributes: they would be saved as Keras
        # objects, which other versions of Keras cannot read.
        self._map = _map_function(network, list(steps), patch_size)
        self._num_features = network.output_shape[-1]
        self._patch_size = patch_size
        self.variables = [variable.value for variable in network.variables]
        self.trainable_variables = [variable.value for variable in network.trainable_variables]
        self.regularization_losses = [
            _penalty_function(variable)
            for variable in network.trainable_variables
            if variable.regularizer is not None
        ]

    @tf.function(autograph=False)
    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Gives one feature vector an image."""
        return tf.reduce_mean(self._map(images, training), axis=(1, 2))

    @tf.function(autograph=False)
    def serve(self, images: tf.Tensor) -> tf.Tensor:
        """Gives one feature vector an image, normalised by the running statistics."""
        return self(images, training=False)

    @tf.function(autograph=False)
    def train(self, images: tf.Tensor) -> tf.Tensor:
        """Gives one feature vector an image, normalised by the batch."""
        return self(images, training=True)

    @tf.function(autograph=False)
    def describe(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gives all that the module knows of each image, by name."""
        return self._describe(self(images, training=False))

    @tf.function(autograph=False)
    def feature_map(self, images: tf.Tensor) -> tf.Tensor:
        """Gives the features of every position."""
        return self._map(images, False)

    @tf.function(autograph=False)
    def serve_bytes(self, encoded: tf.Tensor) -> tf.Tensor:
        """Gives one feature vector an image file."""
        return self.describe_bytes(encoded)["features"]

    @tf.function(autograph=False)
    def describe_bytes(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gives all that the module knows of each image file, by name."""

        def describe(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = self._prepare(decode_image(contents))
            found = self._describe(self(pixels[None] / 255, training=False))
            return {name: value[0] for name, value in found.items()}

        # One file after the other: each has a size of its own, and the same result in any company.
        return tf.map_fn(describe, encoded, fn_output_signature=self._specs())

    def _specs(self) -> dict[str, tf.TensorSpec]:
        return {"features": tf.TensorSpec([self._num_features], tf.float32)}

    def _describe(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": features}

    def _prepare(self, image: tf.Tensor) -> tf.Tensor:
        """Gives the pixels, 0 to 255, that describe a decoded file."""
        return _scale_photo(image, PHOTO_PIXELS, self._patch_size)

    def trace(self) -> dict[str, Any]:
        """Traces every function for any number of images of any size, and gives the signatures."""
        images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="encoded")
        for mode in ({}, {"training": False}, {"training": True}):
            self.__call__.get_concrete_function(images, **mode)
        for function in (self.serve, self.train, self.describe, self.feature_map):
            function.get_concrete_function(images)
        for function in (self.serve_bytes, self.describe_bytes):
            function.get_concrete_function(encoded)
        return {
            "serving_default": signature(self.serve, images, "features"),
            "feature_map": signature(self.feature_map, images, "feature_map"),
            "serve_bytes": signature(self.describe_bytes, encoded),
        }


def _map_function(
    network: keras.Model, steps: list[Step], patch_size: int
) -> Callable[[tf.Tensor, bool], tf.Tensor]:
    """Gives the function from images in [0, 1] to feature maps."""

    def compute(images: tf.Tensor, training: bool) -> tf.Tensor:
        pixels = _require_size(images, patch_size) * 255
        for step in steps:
            pixels = step(pixels)
        return network(pixels, training=training)

    return compute


def _require_size(images: tf.Tensor, patch_size: int) -> tf.Tensor:
    """Gives the images, which must be of the patch size at least when the graph runs."""
    sides = tf.shape(images)[1:3]
    message = f"Images must be at least {patch_size} pixels a side; enlarge or pad them. Received:"
    check = tf.debugging.Assert(tf.reduce_all(sides >= patch_size), [message, sides])
    # Padding, of nothing, keeps shape inference from failing first with a riddle.
    missing = tf.maximum(patch_size - sides, 0)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])


def _penalty_function(variable: keras.Variable) -> Callable[[], tf.Tensor]:
    """Gives a variable's regularisation loss as a function without arguments."""

    @tf.function(autograph=False, input_signature=[])
    def penalty() -> tf.Tensor:
        return tf.convert_to_tensor(variable.regularizer(variable))

    return penalty


def signature(function: Any, argument: tf.TensorSpec, result: str = "") -> Any:
    """Gives a function as a serving signature with a named result, or with names of its own."""

    @tf.function(autograph=False, input_signature=[argument])
    def serve(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        found = function(*arguments)
        return {result: found} if result else found

    return serve


def _scale_photo(image: tf.Tensor, num_pixels: int, min_side: int) -> tf.Tensor:
    """Scales both sides of a uint8 image to an area as training does; float32 in 0...255.

    An image so thin that its shorter side would be under `min_side` becomes larger than that area.
    """
    sides = tf.shape(image)[:2]
    shorter = tf.minimum(sides[0], sides[1])
    message = f"An image's sides may differ at most {MAX_ASPECT} times; crop it. Received:"
    is_compact = tf.maximum(sides[0], sides[1]) <= MAX_ASPECT * shorter
    check = tf.debugging.Assert(is_compact, [message, sides])
    with tf.control_dependencies([check] if check is not None else []):
        size = tf.cast(sides, tf.float64)
    scale = tf.maximum(
        tf.sqrt(num_pixels / tf.reduce_prod(size)), min_side / tf.cast(shorter, tf.float64)
    )
    return resize_image(image, tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1))
