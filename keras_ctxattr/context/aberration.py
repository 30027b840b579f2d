"""Chromatic aberration: how well a patch tells where on the lens it was.

Lateral aberration magnifies the colours differently, so the shift between green and the other two
channels points away from the image's centre. A network that reads it solves the pretext task
without looking at content. Here aberration is added to photographs, and a regressor shows how much
of the position each colour guard lets through.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.layers import PatchCutter, PatchProcessing

_INPUT_SCALE = 1 / 50  # patches are processed to a root mean square of 50
_CENTRE = keras.initializers.Constant(0.5)


def add_lateral_aberration(image: tf.Tensor, strength: float) -> tf.Tensor:
    """Magnifies red and blue about the image's centre, so that green seems shrunk.

    Sampled with a cubic kernel: a linear one would blur red and blue by how far they are shifted,
    and so give the position away in a single channel.

    Args:
        image: uint8 or float32 `[height, width, 3]` in 0...255.
        strength: shift of red and blue at the corners in pixels, 0 or more; real lenses: 0 to 3.

    Returns:
        The image, of the same type and shape.

    Raises:
        ValueError: if `strength` is negative or not finite.

    Example:
        >>> image = tf.zeros([40, 60, 3], tf.uint8)
        >>> add_lateral_aberration(image, 2.0).shape
        TensorShape([40, 60, 3])

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1: "one color channel (commonly green) is shrunk
        toward the image center relative to the others".
    """
    _check_strength(strength)
    shape = tf.shape(image)[:2]
    size = tf.cast(shape, tf.float32)
    magnification = 1 + strength / (tf.norm(size) / 2)
    shifted = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(image, tf.float32)[None, :, :, ::2],
        size=shape,
        scale=tf.stack([magnification, magnification]),
        translation=size / 2 * (1 - magnification),  # the centre stays
        kernel_type="keyscubic",
        antialias=False,
    )[0]
    if image.dtype == tf.uint8:
        shifted = tf.cast(tf.clip_by_value(tf.round(shifted), 0, 255), tf.uint8)
    shifted = tf.ensure_shape(shifted, [*image.shape[:2], 2])
    return tf.stack([shifted[..., 0], image[..., 1], shifted[..., 1]], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionConfig:
    """Which patches a `PositionRegressor` sees.

    Attributes:
        strength: aberration added to the photographs, pixels of shift at their corners.
        patch_size: side of a patch in pixels.
        images_per_batch: photographs loaded for one step.
        patches_per_image: patches of each, at uniformly random places.
        min_pixels: smallest area to which a photograph is scaled, before aberration is added.
        max_pixels: largest such area.
    """

    strength: float = 2.0
    patch_size: int = 96
    images_per_batch: int = 8
    patches_per_image: int = 16
    min_pixels: int = 150_000
    max_pixels: int = 450_000

    def __post_init__(self) -> None:
        """Checks what `GridConfig` does not."""
        _check_strength(self.strength)

    @property
    def grids(self) -> GridConfig:
        """How photographs are loaded: as for the pretext task. Its grids are not used."""
        return GridConfig(
            patch_size=self.patch_size,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            grids_per_image=1,
            images_per_batch=self.images_per_batch,
            patches_per_batch=self.images_per_batch * self.patches_per_image,
            pairs_per_batch=2,
        )


def position_batches(
    manifest: Manifest,
    config: PositionConfig | None = None,
    *,
    seed: int = 0,
    num_steps: int | None = None,
) -> tf.data.Dataset:
    """Gives patches of photographs with aberration added, and where they are.

    Args:
        manifest: the photographs.
        config: which patches, `PositionConfig()` if None.
        seed: seed of all draws; batches are a function of it and their number.
        num_steps: number of batches, endless if None. `len(manifest) // images_per_batch` batches
            show each photograph at most once.

    Returns:
        A dataset of dicts: `canvases`, `sizes`, `corners` as `grid_batches` gives them (the
        patches of one image follow one another), and `positions` float32 `[patches, 2]`, (x, y) of
        each patch's centre as fractions of the image's width and height.

    Raises:
        ValueError: if no image is usable.
    """
    config = config or PositionConfig()
    batches = grid_batches(manifest, config.grids, seed=seed, num_steps=num_steps)
    return batches.map(
        lambda batch: _place_patches(batch, config), num_parallel_calls=2, deterministic=True
    ).prefetch(2)


def _place_patches(batch: dict[str, tf.Tensor], config: PositionConfig) -> dict[str, tf.Tensor]:
    sizes = batch["sizes"]

    def aberrate(inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        canvas, size = inputs
        num_pixels = size[0] * size[1]
        image = tf.reshape(canvas[:num_pixels], [size[0], size[1], 3])
        image = tf.reshape(add_lateral_aberration(image, config.strength), [-1, 3])
        return tf.concat([image, canvas[num_pixels:]], axis=0)

    canvases = tf.map_fn(
        aberrate,
        (batch["canvases"], sizes),
        fn_output_signature=tf.TensorSpec([config.max_pixels, 3], tf.uint8),
    )
    image = tf.repeat(tf.range(config.images_per_batch), config.patches_per_image)
    size = tf.gather(sizes, image)  # [patch, axis]
    room = tf.cast(size - config.patch_size + 1, tf.float32)
    draws = tf.random.stateless_uniform(
        [config.images_per_batch * config.patches_per_image, 2], batch["seed"]
    )
    corner = tf.cast(draws * room, tf.int32)
    centre = (tf.cast(corner, tf.float32) + config.patch_size / 2) / tf.cast(size, tf.float32)
    return {
        "canvases": canvases,
        "sizes": sizes,
        "corners": tf.concat([image[:, None], corner], axis=-1),
        "positions": centre[:, ::-1],
    }


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


def predict_positions(
    model: PositionRegressor, batches: Iterable[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Gives where the patches of each batch are, and where the model puts them.

    Args:
        model: the regressor.
        batches: as `position_batches` gives them, one image a batch.

    Returns:
        (true, predicted), float32 `[images, patches, 2]`.
    """
    pairs = [
        (np.asarray(batch["positions"]), np.asarray(model(batch, training=False)))
        for batch in batches
    ]
    return np.stack([true for true, _ in pairs]), np.stack([predicted for _, predicted in pairs])


def position_errors(
    true_positions: np.ndarray, predicted_positions: np.ndarray, best_share: float = 0.1
) -> dict[str, float]:
    """Gives errors over all images and over those that are told best.

    Args:
        true_positions: float `[images, patches, 2]`, fractions of the image's size.
        predicted_positions: the same, as predicted.
        best_share: share of the images, those of the smallest error, of `rmse_best10`.

    Returns:
        `rmse`: root of the mean squared Euclidean distance over all patches; `rmse_centre`: that
        of always answering the centre; `ratio`: the first divided by the second; `rmse_best10`:
        root mean square over the best images; `rmse_centre_best10`: that of the centre on the
        images which are best for *it*.
    """
    best = max(1, math.ceil(best_share * len(true_positions)))

    def errors(predicted: np.ndarray) -> tuple[float, float]:
        squares = np.square(np.asarray(true_positions, np.float64) - predicted).sum(-1).mean(-1)
        squares.sort()
        return float(np.sqrt(squares.mean())), float(np.sqrt(squares[:best].mean()))

    rmse, rmse_best = errors(np.asarray(predicted_positions, np.float64))
    centre, centre_best = errors(np.full(2, 0.5))
    return {
        "rmse": rmse,
        "rmse_best10": rmse_best,
        "rmse_centre": centre,
        "rmse_centre_best10": centre_best,
        "ratio": rmse / centre,
    }


def _check_strength(strength: float) -> None:
    if not 0 <= strength < math.inf:
        raise ValueError(
            "`strength` must be a number of pixels, 0 or more (real lenses: 0 to 3). "
            f"Received: strength={strength}"
        )
