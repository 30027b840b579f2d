"""A network that tells from a patch where in its image it was."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ctxattr.layers import PatchCutter, PatchProcessing

_INPUT_SCALE = 1 / 50  # patches are processed to a root mean square of 50
_CENTRE = keras.initializers.Constant(0.5)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class SecondOrderPooling(keras.layers.Layer):
    """Pools a map into the correlations between its channels.

    The shift between two colours is a correlation, of their difference with their slope: first
    moments of the channels do not hold it.

    Call arguments:
        activations: float `[batch, height, width, channels]`.

    Returns:
        float32 `[batch, channels * (channels + 1) / 2]`: mean products of two channels, divided by
        the mean energy of a channel.

    Reference:
        Lin, RoyChowdhury, Maji 2015, "Bilinear CNN Models for Fine-grained Visual Recognition".
    """

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Lists the entries of the upper triangle."""
        channels = input_shape[-1]
        rows, columns = np.triu_indices(channels)
        self._upper = (rows * channels + columns).astype("int32")

    def call(self, activations: Any) -> Any:
        """Gives the products."""
        height, width, channels = activations.shape[1:]
        flat = ops.reshape(ops.cast(activations, "float32"), (-1, height * width, channels))
        products = ops.matmul(ops.transpose(flat, (0, 2, 1)), flat)
        products = ops.reshape(products, (-1, channels * channels))
        energy = ops.mean(ops.square(flat), axis=(1, 2))[:, None] * (height * width)
        return ops.take(products, self._upper, axis=1) / ops.maximum(energy, 1e-6)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        """Gives the number of pairs of channels."""
        channels = input_shape[-1]
        return (input_shape[0], channels * (channels + 1) // 2)


def position_network(patch_size: int = 96, *, filters: int = 32) -> keras.Model:
    """Gives a small network that reads shifts between colours at full resolution.

    Args:
        patch_size: side of a patch in pixels.
        filters: filters of the one convolution.

    Returns:
        A `keras.Model`, float32 `[batch, patch_size, patch_size, 3]` at an RMS of 50 ->
        float32 `[batch, 2]`, (x, y) as fractions of the image's size.
    """
    inputs = keras.Input((patch_size, patch_size, 3), name="patches")
    flow = keras.layers.Rescaling(_INPUT_SCALE, name="scale")(inputs)
    flow = keras.layers.Conv2D(filters, 7, strides=2, use_bias=False, name="filters")(flow)
    flow = SecondOrderPooling(dtype="float32", name="pool")(flow)
    flow = keras.layers.BatchNormalization(dtype="float32", name="norm")(flow)
    flow = keras.layers.Dense(128, activation="relu", dtype="float32", name="hidden")(flow)
    outputs = keras.layers.Dense(
        2, kernel_initializer="zeros", bias_initializer=_CENTRE, dtype="float32", name="position"
    )(flow)
    return keras.Model(inputs, outputs, name="position_network")


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PositionRegressor(keras.Model):
    """Tells from a patch where in its image it was.

    Call arguments:
        batch: dict with `canvases`, `sizes`, `corners`, as `position_batches` gives them.
        training: whether to train.

    Returns:
        float32 `[patches, 2]`, (x, y) as fractions of the image's width and height.

    Args:
        colour: guard against chromatic aberration, `"none"`, `"project"` or `"drop"`.
        network: a `keras.Model` from float32 `[batch, patch_size, patch_size, 3]` to `[batch, 2]`;
            `position_network()` if None.
        preset: `"released"` or `"paper"`: how patches are normalised.
        patch_size: side of a patch in pixels.
        seed: seed of what colour dropping draws, or None.
        **kwargs: passed on to `keras.Model`.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.2.
    """

    def __init__(
        self,
        colour: str = "none",
        *,
        network: keras.Model | None = None,
        preset: str = "released",
        patch_size: int = 96,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = network or position_network(patch_size)
        self.colour, self.preset, self.patch_size, self.seed = colour, preset, patch_size, seed
        self.cutter = PatchCutter(patch_size, jitter=0, name="cutter")
        self.processing = PatchProcessing(
            preset, colour, downsampling=0.0, seed=seed, name="processing"
        )
        self.processing.build((None, patch_size, patch_size, 3))
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.supports_jit = bool(tf.config.list_physical_devices("GPU"))
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` and `evaluate` reset."""
        return [self.loss_metric]

    def call(self, batch: dict[str, Any], training: bool | None = None) -> Any:
        """Gives each patch's position."""
        patches = self.cutter(batch["canvases"], batch["sizes"], batch["corners"])
        return self.network(self.processing(patches, training=training), training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one gradient step on a batch, as `fit` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = position_loss(batch["positions"], self(batch, training=True))
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_metric.update_state(loss)
        return self.compute_metrics(None, None, None)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, as `evaluate` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_metric.update_state(position_loss(batch["positions"], self(batch)))
        return {"loss": self.loss_metric.result()}

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {
            **super().get_config(),
            "colour": self.colour,
            "network": keras.saving.serialize_keras_object(self.network),
            "preset": self.preset,
            "patch_size": self.patch_size,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PositionRegressor":
        """Makes a model from `get_config`'s result."""
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**{**config, "network": network})


def position_loss(positions: Any, predicted: Any) -> Any:
    """Gives the mean squared Euclidean distance.

    Args:
        positions: float32 `[patches, 2]`.
        predicted: float32 `[patches, 2]`.

    Returns:
        float32 `[]`.
    """
    return ops.mean(ops.sum(ops.square(positions - ops.cast(predicted, "float32")), axis=-1))
