"""Plain SavedModels as Keras models that can be trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras
import tensorflow as tf

_ENDPOINTS = ("feature_map", "serving_default")
T = TypeVar("T")


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class SavedModelMap(keras.layers.TFSMLayer):
    """A function of a SavedModel, whose variables any optimiser of Keras takes.

    Keras's own layer names its variables as the SavedModel does, "conv1/kernel:0", and optimisers
    with memory refuse such names (Keras 3.15).
    """

    def _add_existing_weight(self, weight: tf.Variable) -> None:
        variable = keras.Variable(
            initializer=weight,
            trainable=weight.trainable,
            dtype=weight.dtype.name,
            shape=weight.shape,
            name=weight.name.replace("/", "_").replace(":", "_"),
        )
        self._track_variable(variable)


def open_map(folder: Path, measure: Callable[[keras.Model], T]) -> tuple[keras.Model, T]:
    """Gives the function of a SavedModel from images to a map, with its weights.

    Args:
        folder: of the SavedModel. An attribute or signature `feature_map` is looked for, then the
            signature `serving_default`, then the only one there is.
        measure: tells what is to be known of the map; an error of it is one of the function.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]` -> float32 `[batch, rows, columns,
        channels]`, and what `measure` says of it.

    Raises:
        ValueError: if it cannot be loaded or there is no such function.
    """
    reasons = []
    for endpoint in _endpoints_of(folder):
        try:
            model = _train_through(folder, endpoint)
            return model, measure(model)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            reasons.append(f"{endpoint}: {in_one_line(error)}")
    raise ValueError(
        "A SavedModel to detect with must have a `feature_map`, or a signature, from float32 "
        "images [batch, height, width, 3] of any size to a map [batch, rows, columns, channels]. "
        f"Received: {folder}, which has {'; '.join(reasons) or 'no signature'}"
    )


def _endpoints_of(folder: Path) -> list[str]:
    """Lists the names of what may give a map, the likelier first."""
    try:
        reloaded = tf.saved_model.load(str(folder))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise ValueError(
            "A SavedModel must be one that TensorFlow can load. Received: "
            f"{folder}: {in_one_line(error)}"
        ) from error
    signatures = list(reloaded.signatures)
    known = [name for name in _ENDPOINTS if hasattr(reloaded, name) or name in signatures]
    return known or signatures[:1] * (len(signatures) == 1)


def _train_through(folder: Path, endpoint: str) -> keras.Model:
    layer = SavedModelMap(str(folder), call_endpoint=endpoint, name="saved_model")
    images = keras.Input((None, None, 3), name="images")
    results = keras.tree.flatten(layer(images))
    maps = [result for result in results if len(result.shape) == 4]
    if len(maps) != 1:
        shapes = ", ".join(str(list(result.shape)) for result in results)
        raise ValueError(f"one map is needed, it gives {shapes}")
    return keras.Model(images, maps[0], name="saved_model")


def in_one_line(error: Any) -> str:
    """Gives the beginning of an error's message without line breaks."""
    return " ".join(str(error).split())[:200]
