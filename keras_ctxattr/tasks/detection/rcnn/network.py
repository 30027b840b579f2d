"""The R-CNN network of a context-trained backbone, and how it is trained."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from keras_ctxattr.backbones.conversion import fold_batch_normalization
from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.layers import CeilMaxPooling2D, CropProcessing, RegionWarping
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe
from keras_ctxattr.tasks.detection.training import RegionLearner
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, under_policy

INPUTS = ("canvases", "sizes", "regions", "places")


def rcnn_network(
    features: FeatureNetwork, num_classes: int, recipe: RcnnRecipe, *, policy: str = "float32"
) -> keras.Model:
    """Gives the network that looks at regions one by one: figure 6 of the paper.

    conv1 to fc6 are the network's own, fc6 as a convolution ("conv6"), batch normalisation folded
    into the weights; conv6b (1 x 1), pool6, fc7 and fc8 follow.

    The paper leaves open whether conv6 pads its 7 x 7 map. Here it does not: in training it saw a
    whole map without padding, and at 5 x 5 places it still does.

    Args:
        features: the network to start from; its weights are copied.
        num_classes: without background.
        recipe: side of crops, widths.
        policy: a Keras dtype policy.

    Returns:
        A functional `keras.Model` from `canvases`, `sizes`, `regions` and `places`, as
        `rcnn_batches` gives them, to `logits` float32 `[crops, num_classes + 1]`, and `features`
        float32 `[crops, hidden_units]`, fc7 after its ReLU.

    Raises:
        ValueError: if the network cannot be taken apart, or a crop is too small for it.

    Reference:
        Doersch, Gupta, Efros 2015, section 4.3 and figure 6.
    """
    inputs = {
        "canvases": keras.Input((None, 3), dtype="uint8", name="canvases"),
        "sizes": keras.Input((2,), dtype="int32", name="sizes"),
        "regions": keras.Input((4,), name="regions"),
        "places": keras.Input((), dtype="int32", name="places"),
    }
    with dtype_policy(policy):
        part = under_policy(transferred_part(features), policy)
        crops, inside = RegionWarping(recipe.crop_side, recipe.context, name="warping")(
            *inputs.values()
        )
        pixels = CropProcessing(**features.processing, name="processing")(crops, inside)
        outputs = _append_head(_convolve(part, pixels, recipe), num_classes, recipe)
    return keras.Model(inputs, outputs, name="rcnn")


def transferred_part(features: FeatureNetwork) -> keras.Model:
    """Gives conv1 to conv6 in float32, without batch normalisation.

    Raises:
        ValueError: if the network cannot be taken apart.
    """
    if features.whole is None:
        raise ValueError(
            "R-CNN needs fc6 of a network whose layers can be reached; a plain SavedModel has "
            f"none. Received: {features.name}"
        )
    return fold_batch_normalization(features.whole)


def _convolve(part: keras.Model, pixels: Any, recipe: RcnnRecipe) -> Any:
    """Gives the map of conv6, of at least 2 x 2 cells, which pool6 needs."""
    try:
        maps = part(pixels)
        side = min(maps.shape[1:3])
    except ValueError:  # a kernel is larger than its map
        side = 0
    if side < 2:
        raise ValueError(
            f"`crop_side` must leave conv6 2 x 2 cells at least; `{part.name}` needs larger crops. "
            f"Received: crop_side={recipe.crop_side}"
        )
    return maps


def _append_head(maps: Any, num_classes: int, recipe: RcnnRecipe) -> dict[str, Any]:
    """Appends conv6b to fc8. Weights start so that any widths keep the size of activations."""
    flow = layers.Conv2D(
        recipe.reduced_channels, 1, activation="relu", kernel_initializer="he_normal", name="conv6b"
    )(maps)
    flow = CeilMaxPooling2D(name="pool6")(flow)
    flow = layers.Flatten(name="flat")(flow)
    flow = layers.Dense(recipe.hidden_units, "relu", kernel_initializer="he_normal", name="fc7")(
        flow
    )
    dropped = layers.Dropout(recipe.dropout, name="fc7_drop")(flow)
    logits = layers.Dense(
        num_classes + 1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="fc8",
    )(dropped)
    return {
        "logits": logits,
        "features": layers.Activation("linear", dtype="float32", name="features")(flow),
    }


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class Rcnn(RegionLearner):
    """Tells of regions, each warped to a square, which object they show.

    Call arguments:
        batch: dictionary as `rcnn_batches` gives it; `labels` may be missing.
        training: whether units are dropped.

    Returns:
        As `rcnn_network` says.

    Args:
        network: made by `rcnn_network`.
        weight_decay: of kernels, as a penalty of half their squares.
        fresh_rate: learning rate of conv6b, fc7 and fc8 over that of the transferred layers.
        **kwargs: passed on to `keras.Model`.

    Reference:
        Girshick et al. 2014, section 2.3; Doersch, Gupta, Efros 2015, section 4.3.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        weight_decay: float = 0.0005,
        fresh_rate: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, weight_decay=weight_decay, **kwargs)
        self.fresh_rate = fresh_rate
        names = ("accuracy", "object_accuracy", "background_accuracy")
        self._accuracies = {name: keras.metrics.Mean(name=name) for name in names}
        self.supports_jit = bool(tf.config.list_physical_devices("GPU"))  # slower on a CPU
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` resets."""
        return [self.loss_metric, *self._accuracies.values()]

    def call(self, batch: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Gives the regions' logits and features."""
        return self.network({name: batch[name] for name in INPUTS}, training=training)

    def score(self, batch: dict[str, Any], outputs: dict[str, Any]) -> Any:
        """Gives the mean cross-entropy of a batch, and counts what is right."""
        labels, logits = batch["labels"], outputs["logits"]
        hits = ops.cast(ops.equal(ops.argmax(logits, -1), labels), "float32")
        masks = (labels >= 0, labels > 0, labels == 0)
        for metric, mask in zip(self._accuracies.values(), masks, strict=True):
            metric.update_state(hits, sample_weight=ops.cast(mask, "float32"))
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )

    def rate_factors(self) -> dict[int, float]:
        """Gives the rate of fresh layers' variables over that of the transferred ones."""
        return {
            id(variable): self.fresh_rate
            for layer in self.network.layers
            if not isinstance(layer, keras.Model)  # the transferred part is one
            for variable in layer.trainable_variables
        }

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), "fresh_rate": self.fresh_rate}


def build_rcnn(
    features: FeatureNetwork, num_classes: int, recipe: RcnnRecipe, *, seed: int = 0
) -> Rcnn:
    """Gives a new, compiled model: its weights depend on the arguments alone.

    Args:
        features: the network to start from.
        num_classes: without background.
        recipe: widths, optimiser, precision.
        seed: of fresh weights and dropped units; it sets those of Python, numpy and TensorFlow.
    """
    keras.utils.set_random_seed(seed)
    with dtype_policy(recipe.dtype_policy) as policy:
        network = rcnn_network(features, num_classes, recipe, policy=policy)
        model = Rcnn(network, weight_decay=recipe.weight_decay, fresh_rate=recipe.fresh_rate)
    model.compile(
        optimizer=keras.optimizers.SGD(
            recipe.learning_rate, momentum=recipe.momentum, global_clipnorm=recipe.clip_norm
        )
    )
    return model
