"""From a network's map to unit normals at every pixel, and how that is trained."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.layers import CropProcessing
from keras_ctxattr.layers.normalization import IMAGENET_MEAN
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, under_policy
from keras_ctxattr.tasks.normals.losses import masked_angle, masked_cosine_loss
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

TOWARDS_CAMERA = (0.0, 0.0, -1.0)
_SMALLEST = 1e-6


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PhotographProcessing(layers.Layer):
    """Brings photographs that fill their batch to what a network sees; see `CropProcessing`.

    Call arguments:
        photographs: uint8 or float32 `[batch, height, width, 3]`, 0 to 255.

    Returns:
        float32 `[batch, height, width, 3]`.

    Args:
        preset: as for `CropProcessing`.
        colour: as for `CropProcessing`.
        mean: as for `CropProcessing`.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `preset` or `colour` is unknown.
    """

    def __init__(
        self,
        preset: str = "released",
        colour: str = "none",
        mean: Sequence[float] = IMAGENET_MEAN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._crops = CropProcessing(preset, colour, mean)
        self.preset, self.colour, self.mean = preset, colour, self._crops.mean

    def build(self, photographs_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, photographs: Any) -> Any:
        """Gives the photographs as the network sees them."""
        pixels = ops.cast(photographs, "float32")
        return self._crops(pixels, ops.ones_like(pixels[..., :1]))

    def compute_output_shape(self, photographs_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the photographs, unchanged."""
        return tuple(photographs_shape)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {"preset": self.preset, "colour": self.colour, "mean": self.mean}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class MapResizing(layers.Layer):
    """Interpolates a network's map linearly at every pixel of its photographs, where it belongs.

    Cell i of the map lies around pixel `offset + (i + 1/2) * stride - 1/2`; beyond the middles of
    the outermost cells their values go on.

    Call arguments:
        maps: float `[batch, rows, columns, channels]`.
        photographs: `[batch, height, width, ...]`, of which the size alone is taken.

    Returns:
        float32 `[batch, height, width, channels]`.

    Args:
        stride: pixels between the centres of neighbouring cells, over 0.
        offset: pixels from the photograph's edge to the first cell's.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `stride` is not over 0.
    """

    def __init__(self, stride: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if stride <= 0:
            raise ValueError(f"`stride` must be over 0. Received: stride={stride}")
        self.stride, self.offset = float(stride), float(offset)

    def build(self, maps_shape: Any, photographs_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, maps: Any, photographs: Any) -> Any:
        """Gives the map at the photographs' size."""
        maps = ops.cast(maps, "float32")
        height, width = ops.shape(photographs)[1:3]
        num_rows, num_columns = ops.shape(maps)[1:3]
        tall = ops.einsum("hr,brcd->bhcd", self._weights_of(height, num_rows), maps)
        return ops.einsum("wc,bhcd->bhwd", self._weights_of(width, num_columns), tall)

    def _weights_of(self, length: Any, num_cells: Any) -> Any:
        """Gives what each cell counts for at each pixel, float32 `[length, num_cells]`."""
        pixels = ops.cast(ops.arange(length), "float32")
        last = ops.cast(num_cells, "float32") - 1
        places = (pixels + 0.5 - self.offset) / self.stride - 0.5
        places = ops.minimum(ops.maximum(places, 0.0), last)
        cells = ops.cast(ops.arange(num_cells), "float32")
        return ops.relu(1 - ops.abs(places[:, None] - cells[None]))

    def compute_output_shape(self, maps_shape: Any, photographs_shape: Any) -> tuple[Any, ...]:
        """Gives the photographs' size with the map's channels."""
        return (*photographs_shape[:3], maps_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "stride": self.stride, "offset": self.offset}


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class UnitLength(layers.Layer):
    """Divides vectors by their lengths, in float32.

    Call arguments:
        vectors: float `[..., channels]`.

    Returns:
        float32 `[..., channels]`, of length 1; shorter where the vector is all but 0.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, vectors_shape: Any) -> None:
        """Builds nothing: there are no weights."""

    def call(self, vectors: Any) -> Any:
        """Gives the unit vectors."""
        vectors = ops.cast(vectors, "float32")
        # The gradient of a length is not finite at 0, that of its square is.
        squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        return vectors * ops.rsqrt(ops.maximum(squares, _SMALLEST**2))

    def compute_output_shape(self, vectors_shape: Any) -> tuple[Any, ...]:
        """Gives the shape of the vectors, unchanged."""
        return tuple(vectors_shape)


def normals_network(
    features: FeatureNetwork, recipe: NormalsRecipe, *, policy: str | None = None
) -> keras.Model:
    """Puts a head for normals on a network: convolutions on its map, three channels, unit length.

    It begins with all normals near (0, 0, -1), towards the camera.

    Args:
        features: the network; its weights are copied where another policy asks for it.
        recipe: widths of the head, and the dtype policy.
        policy: another one in its place.

    Returns:
        A `keras.Model`, uint8 or float32 `[batch, height, width, 3]`, 0 to 255 -> float32 `[batch,
        height, width, 3]`, unit normals: x to the right, y down, z forward.
    """
    with dtype_policy(policy or recipe.dtype_policy) as chosen:
        photographs = keras.Input((None, None, 3), name="photographs")
        ready = PhotographProcessing(**features.processing, name="processing")(photographs)
        backbone = under_policy(features.model, chosen)
        backbone.trainable = recipe.train_backbone
        maps = backbone(ready)
        for number, width in enumerate(recipe.head_widths, start=1):
            options = {"padding": "same", "kernel_initializer": "he_normal"}
            maps = layers.Conv2D(width, 3, name=f"head{number}", **options)(maps)
            maps = layers.ReLU(name=f"head{number}_relu")(maps)
        outputs = layers.Conv2D(
            3,
            1,
            dtype="float32",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=_towards_camera,
            name="directions",
        )(maps)
        large = MapResizing(features.stride, features.offset, name="resizing")(outputs, photographs)
        return keras.Model(photographs, UnitLength(name="normals")(large), name="normals")


@keras.saving.register_keras_serializable(package="keras_ctxattr")
def _towards_camera(shape: Any, dtype: Any = None) -> Any:
    return ops.broadcast_to(ops.convert_to_tensor(TOWARDS_CAMERA, dtype), shape)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class NormalsLearner(keras.Model):
    """Trains a network of normals: the mean of 1 - cosine over the pixels that have a normal.

    Call arguments:
        photographs: as the network takes them.
        training: passed on to the network.

    `fit` takes (photographs uint8 `[batch, height, width, 3]`, normals float `[batch, height,
    width, 3]`, 0 where there is none). What has no normal has no gradient.

    Args:
        network: made by `normals_network`.
        **kwargs: passed on to `keras.Model`.
    """

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.angle_metric = keras.metrics.Mean(name="angle")
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` resets: the loss, and the angle in degrees."""
        return [self.loss_metric, self.angle_metric]

    def call(self, photographs: Any, training: bool | None = None) -> Any:
        """Gives the normals."""
        return self.network(photographs, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step."""
        photographs, normals, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self._score(photographs, normals, training=True)
            # Gradients are summed over replicas.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled, variables), variables, strict=True)
        )
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, as `evaluate` asks for."""
        photographs, normals, _ = keras.utils.unpack_x_y_sample_weight(data)
        self._score(photographs, normals, training=False)
        return {metric.name: metric.result() for metric in self.metrics}

    def _score(self, photographs: Any, normals: Any, *, training: bool) -> Any:
        """Gives the loss of a batch, and counts it; each pixel of an epoch weighs the same."""
        predicted = self(photographs, training=training)
        loss, count = masked_cosine_loss(normals, predicted)
        self.loss_metric.update_state(loss, sample_weight=count)
        self.angle_metric.update_state(masked_angle(normals, predicted), sample_weight=count)
        return loss

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {"network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NormalsLearner":
        """Makes the model of `get_config`'s result."""
        return cls(keras.saving.deserialize_keras_object(config["network"]))
