"""The network from a window of a photograph to whether its middle is a contour, and which kind."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from keras_ctxattr.backbones.conversion import dense_evaluation, fold_batch_normalization
from keras_ctxattr.layers import CeilMaxPooling2D, WithinChannelNormalization
from keras_ctxattr.tasks.contours.labels import CONTOUR, NONE
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

WINDOW = 107
"""Pixels of a side that the network sees, if there is no local response normalisation."""

STRIDE = 8
"""Pixels between the windows of neighbouring outputs."""

_KERNEL, _POOL = 5, 3
MISSING = -1
"""An attribute that is not known."""


def contour_network(
    num_attributes: int, recipe: ContourRecipe, *, padded: bool = False
) -> keras.Model:
    """Makes the network.

    Four convolutions of 5 x 5, pooling of 3 x 3 after the first three, two layers that see 5 x 5
    and 1 x 1 of what is left. Nothing is padded, so that every output sees its window and nothing
    else; or, as the papers train, everything is: the network then takes patches of 45 x 45 pixels,
    around which it sees zeros. The weights are the same.

    Args:
        num_attributes: K, at least 0.
        recipe: widths.
        padded: whether it takes patches.

    Returns:
        A `keras.Model`, uint8 or float32 `[batch, 107 + 8 m, 107 + 8 n, 3]` (or 135 + ..., see
        `window_of`), 0 to 255 -> float32 logits `[batch, 1 + m, 1 + n, 1 + num_attributes]`, the
        first one of a contour. If padded,
        `[batch, 45, 45, 3]` -> `[batch, 1, 1, 1 + num_attributes]`, centred on row and column 23.

    Reference:
        Shen et al. 2015, table 1; Huang, Loy, Tang 2016, section 5, of K + 1 outputs.
    """
    side = 45 if padded else None
    inputs = keras.Input((side, side, 3), name="pixels")
    padding = "same" if padded else "valid"
    maps = layers.Rescaling(1 / 64, offset=-2.0, name="scaling")(inputs)
    for number, width in enumerate(recipe.widths, start=1):
        maps = _convolve(maps, width, f"conv{number}", recipe, padding)
        if number < len(recipe.widths):
            pool = CeilMaxPooling2D() if padded else layers.MaxPooling2D(_POOL, 2)
            maps = pool(maps)
            if recipe.local_response:
                name = f"norm{number}"
                maps = WithinChannelNormalization(padding=padding, name=name)(maps)
    maps = _convolve(maps, recipe.hidden_units, "fc1", recipe, "valid")
    maps = layers.Dropout(recipe.dropout, name="fc1_drop")(maps)
    outputs = layers.Conv2D(1 + num_attributes, 1, dtype="float32", name="logits")(maps)
    return keras.Model(inputs, outputs, name="contours")


def _convolve(maps: Any, width: int, name: str, recipe: ContourRecipe, padding: str) -> Any:
    options = {
        "use_bias": not recipe.normalize,
        "kernel_initializer": "he_normal",
        "padding": padding,
    }
    maps = layers.Conv2D(width, _KERNEL, name=name, **options)(maps)
    if recipe.normalize:
        maps = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(maps)
    return layers.ReLU(name=f"{name}_relu")(maps)


def window_of(network: keras.Model) -> int:
    """Gives the pixels of a side that a network which pads nothing sees: 107 or 135."""
    # A normalisation sees one cell more to either side, of the stride after its pooling.
    numbers = [
        int(layer.name.removeprefix("norm"))
        for layer in network.layers
        if isinstance(layer, WithinChannelNormalization)
    ]
    return WINDOW + sum(2 * 2**number for number in numbers)


def unpadded_network(network: keras.Model, recipe: ContourRecipe) -> keras.Model:
    """Gives the form of a network that pads nothing, with weights of its own."""
    found = contour_network(network.output_shape[-1] - 1, recipe)
    found.set_weights(network.get_weights())
    return found


def shift_contour_logit(network: keras.Model, shift: float) -> None:
    """Adds a number to the logit of a contour, wherever it is.

    Args:
        network: made by `contour_network`.
        shift: such as the log odds of contours among pixels, after training where both weighed the
            same: chances are then those of the photographs.
    """
    kernel, bias = network.get_layer("logits").get_weights()
    bias[0] += shift
    network.get_layer("logits").set_weights([kernel, bias])


def dense_network(network: keras.Model) -> keras.Model:
    """Gives the network's probabilities at every pixel, in float32, without batch normalisation.

    Args:
        network: made by `contour_network`.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]`, 0 to 255 -> float32 `[batch, height -
        window + 1, width - window + 1, 1 + num_attributes]` in (0, 1).
    """
    window = window_of(network)
    dense = dense_evaluation(fold_batch_normalization(network, patch_size=window), window)
    chances = layers.Activation("sigmoid", dtype="float32", name="chances")(dense.output)
    return keras.Model(dense.input, chances, name=network.name)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ContourLearner(keras.Model):
    """Trains a contour network: cross-entropies of contours and of the attributes that are known.

    Call arguments:
        pixels: as the network takes them.
        training: whether units are dropped.

    `fit` takes (pixels, labels int8 `[batch, rows, columns]`: 1, 0, or -1 for unsure), or (pixels,
    labels, patches, places), of which `label_attributes` makes the attributes int8 `[batch, rows,
    columns, K]`: 1, 0, or -1 for missing. What is unsure or missing has no gradient. Contours and
    other pixels weigh as `contour_share` says however many there are; an attribute's 1s and 0s
    weigh the same.

    Args:
        network: made by `contour_network`.
        contour_share: weight of the contours' loss, that of the other pixels being the rest.
        attribute_weight: weight of the attributes' loss.
        label_attributes: from patches, places and the number of places a side to attributes; not
            saved with the model.
        **kwargs: passed on to `keras.Model`.

    Reference:
        Huang, Loy, Tang 2016, section 5, of missing labels.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        contour_share: float = 0.5,
        attribute_weight: float = 1.0,
        label_attributes: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = network
        self._label_attributes = label_attributes
        self.contour_share, self.attribute_weight = contour_share, attribute_weight
        self.loss_metric = keras.metrics.Mean(name="loss")
        names = ("contour_loss", "attribute_loss", "contours_found", "others_found", "bits_found")
        self._means = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` resets."""
        return [self.loss_metric, *self._means.values()]

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        """Gives the logits."""
        return self.network(pixels, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool | None = True,
    ) -> Any:
        """Gives the loss of logits; `y` is the labels, or (labels, attributes)."""
        del x, sample_weight, training
        labels, attributes = y if isinstance(y, tuple | list) else (y, None)
        contours = balanced_cross_entropy(labels, y_pred[..., 0], self.contour_share, axes=None)
        if attributes is None:
            attribute_loss = ops.zeros_like(contours)
        else:
            losses = balanced_cross_entropy(attributes, y_pred[..., 1:], 0.5, axes=(0, 1, 2))
            attribute_loss = ops.mean(losses)
            is_right = ops.equal(y_pred[..., 1:] > 0, ops.equal(attributes, 1))
            is_known = ops.cast(ops.not_equal(attributes, MISSING), "float32")
            self._means["bits_found"].update_state(is_right, sample_weight=is_known)
        self._means["contour_loss"].update_state(contours)
        self._means["attribute_loss"].update_state(attribute_loss)
        for name, kind in (("contours_found", CONTOUR), ("others_found", NONE)):
            is_kind = ops.cast(ops.equal(labels, kind), "float32")
            is_right = ops.equal(y_pred[..., 0] > 0, kind == CONTOUR)
            self._means[name].update_state(is_right, sample_weight=is_kind)
        return contours + self.attribute_weight * attribute_loss

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step."""
        pixels, labels, *patches = data
        y = labels
        if patches and self._label_attributes is not None:
            y = labels, self._label_attributes(*patches, labels.shape[1])
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(pixels, training=True))
            # Gradients are summed over replicas.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled, variables), variables, strict=True)
        )
        self.loss_metric.update_state(loss)
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "contour_share": self.contour_share,
            "attribute_weight": self.attribute_weight,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ContourLearner":
        """Makes the model of `get_config`'s result."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(network, **{key: value for key, value in config.items() if key != "network"})


def balanced_cross_entropy(
    labels: Any, logits: Any, share: float, *, axes: tuple[int, ...] | None
) -> Any:
    """Gives the cross-entropy of what is known, 1s and 0s weighing alike however many there are.

    Args:
        labels: 1, 0, or a negative number for what is not known.
        logits: float, of the same shape.
        share: weight of the 1s; that of the 0s is the rest.
        axes: over which to take the means; None for all.

    Returns:
        float32, of the other axes; 0 where nothing is known, half the sum where only 1s or 0s are.
    """
    logits = ops.cast(logits, "float32")
    losses = {
        1: ops.softplus(-logits),
        0: ops.softplus(logits),
    }
    total: Any = 0.0
    for kind, weight in ((1, share), (0, 1 - share)):
        is_kind = ops.cast(ops.equal(labels, kind), "float32")
        count = ops.maximum(ops.sum(is_kind, axis=axes), 1.0)
        total = total + weight * ops.sum(is_kind * losses[kind], axis=axes) / count
    return total
