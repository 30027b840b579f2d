"""From a network's map to unit normals at every pixel, and how that is trained."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, under_policy
from keras_ctxattr.tasks.normals.layers import MapResizing, PhotographProcessing, UnitLength
from keras_ctxattr.tasks.normals.losses import masked_angle, masked_cosine_loss
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

TOWARDS_CAMERA = (0.0, 0.0, -1.0)


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
