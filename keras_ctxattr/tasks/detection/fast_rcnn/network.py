"""The Fast R-CNN network and how it is trained."""

from typing import Any

import keras
from keras import layers, ops

from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.layers import CanvasProcessing, RegionMaxPooling2D
from keras_ctxattr.tasks.detection.fast_rcnn.losses import classification_loss, regression_loss
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from keras_ctxattr.tasks.detection.regression import encode_boxes
from keras_ctxattr.tasks.detection.training import RegionLearner
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, under_policy

INPUTS = ("images", "sizes", "regions")


def fast_rcnn_network(
    features: FeatureNetwork, num_classes: int, recipe: FastRcnnRecipe, *, policy: str = "float32"
) -> keras.Model:
    """Appends pooling of regions and the head to the convolutional part of a network.

    Args:
        features: the convolutional part; its weights are copied.
        num_classes: without background.
        recipe: widths, bins, whether boxes are refined.
        policy: a Keras dtype policy.

    Returns:
        A functional `keras.Model` from `images`, `sizes` and `regions`, as `fast_rcnn_batches`
        gives them, to `logits` float32 `[batch, regions, num_classes + 1]` and, where boxes are
        refined, `shifts` float32 `[batch, regions, num_classes, 4]`. Fresh layers start Gaussian:
        .01, and .001 for shifts.

    Reference:
        Girshick 2015, sections 2.1 and 2.2.
    """
    inputs = {
        "images": keras.Input((None, None, 3), dtype="uint8", name="images"),
        "sizes": keras.Input((2,), dtype="int32", name="sizes"),
        "regions": keras.Input((None, 4), name="regions"),
    }
    with dtype_policy(policy):
        part = under_policy(features.model, policy)
        pixels = CanvasProcessing(**features.processing, name="processing")(
            inputs["images"], inputs["sizes"]
        )
        pooling = RegionMaxPooling2D(
            recipe.region_size,
            features.stride,
            features.offset,
            max_cells=-(-recipe.max_side // int(features.stride)) + 64 // int(features.stride),
            name="region_pool",
        )
        pooled = pooling(part(pixels), inputs["regions"])
        outputs = _append_head(pooled, num_classes, recipe)
    return keras.Model(inputs, outputs, name="fast_rcnn")


def _append_head(pooled: Any, num_classes: int, recipe: FastRcnnRecipe) -> dict[str, Any]:
    size, channels = recipe.region_size, pooled.shape[-1]
    flow = layers.Reshape((-1, size * size * channels), name="flat")(pooled)
    for name in ("fc6", "fc7"):
        flow = layers.Dense(
            recipe.hidden_units, "relu", kernel_initializer=_gaussian(0.01), name=name
        )(flow)
        flow = layers.Dropout(recipe.dropout, name=f"{name}_drop")(flow)
    logits = layers.Dense(
        num_classes + 1, kernel_initializer=_gaussian(0.01), dtype="float32", name="logits"
    )(flow)
    if not recipe.box_regression:
        return {"logits": logits}
    shifts = layers.Dense(
        4 * num_classes, kernel_initializer=_gaussian(0.001), dtype="float32", name="shift_values"
    )(flow)
    return {
        "logits": logits,
        "shifts": layers.Reshape((-1, num_classes, 4), dtype="float32", name="shifts")(shifts),
    }


def _gaussian(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class FastRcnn(RegionLearner):
    """Tells of regions of photographs which object they show.

    Call arguments:
        batch: dictionary as `fast_rcnn_batches` gives it; `images`, `sizes` and `regions` suffice.
        training: whether units are dropped.

    Returns:
        As `fast_rcnn_network` says.

    Args:
        network: made by `fast_rcnn_network`.
        weight_decay: of kernels, as a penalty of half their squares.
        transferred: names of layers with transferred weights.
        backbone_rate: their learning rate over that of the others.
        **kwargs: passed on to `keras.Model`.

    Reference:
        Girshick 2015.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        weight_decay: float = 0.0005,
        transferred: Any = (),
        backbone_rate: float = 1.0,
        **kwargs: Any,
    ) -> None:
        # In half precision, edges of regions would be off by a pixel or two.
        super().__init__(network, weight_decay=weight_decay, **{"autocast": False, **kwargs})
        self.backbone_rate, self.transferred = backbone_rate, tuple(transferred)
        self._terms = {
            name: keras.metrics.Mean(name=name)
            for name in ("classification", "regression", "accuracy", "object_accuracy")
        }
        self.supports_jit = False  # photographs have many shapes
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` resets."""
        return [self.loss_metric, *self._terms.values()]

    def call(self, batch: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Gives the regions' logits, and their shifts."""
        return self.network({name: batch[name] for name in INPUTS}, training=training)

    def score(self, batch: dict[str, Any], outputs: dict[str, Any]) -> Any:
        """Gives the loss of a batch, and counts what is right."""
        labels = batch["labels"]
        terms = {"classification": classification_loss(labels, outputs["logits"])}
        if "shifts" in outputs:
            goals = encode_boxes(batch["regions"], batch["targets"])
            terms["regression"] = regression_loss(labels, outputs["shifts"], goals)
        hits = ops.cast(ops.equal(ops.argmax(outputs["logits"], -1), labels), "float32")
        for name, mask in (("accuracy", labels >= 0), ("object_accuracy", labels > 0)):
            self._terms[name].update_state(hits, sample_weight=ops.cast(mask, "float32"))
        for name, value in terms.items():
            self._terms[name].update_state(value)
        return sum(terms.values())

    def rate_factors(self) -> dict[int, float]:
        """Gives the rate of transferred layers' variables over that of the others."""
        return {
            id(variable): self.backbone_rate
            for layer in self._own_layers()
            if layer.name in self.transferred
            for variable in layer.trainable_variables
        }

    def _own_layers(self) -> list[Any]:
        flat = self.network._flatten_layers(include_self=False, recursive=True)
        return [layer for layer in flat if not isinstance(layer, keras.Model)]

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        names = ("transferred", "backbone_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
