"""Frozen networks, every layer of which describes photographs by its pooled map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.conversion import fold_batch_normalization
from keras_ctxattr.backbones.conversion.activations import activation_maps
from keras_ctxattr.export import locate_module, read_module
from keras_ctxattr.export.attributes import read_projection
from keras_ctxattr.features import HOG
from keras_ctxattr.layers import CanvasProcessing
from keras_ctxattr.tasks.classification.pooling import pool_maps
from keras_ctxattr.tasks.detection.starting import draw_weights
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, open_feature_network

FEATURES = "features"
ATTRIBUTES = "attributes"
BATCH_SIZE = 32
HOG_CELL = 10  # pixels; of photographs of 150, blocks of 20 that overlap by half

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayeredNetwork:
    """A network whose maps are all read in one pass over the whole photograph.

    Attributes:
        name: What it was opened from.
        model: Float32 `[batch, height, width, 3]`, as `processing` gives them, to a dict of maps,
            float32 `[batch, rows, columns, channels]`, by the names of the layers.
        processing: What brings photographs to it: arguments of `CanvasProcessing`.
        can_be_drawn: Whether `fresh` can draw its weights anew.
    """

    name: str
    model: keras.Model
    processing: dict[str, Any]
    can_be_drawn: bool

    @property
    def layers(self) -> list[str]:
        """The names of the layers, from the first to the last."""
        return list(self.model.output)

    def only(self, names: list[str]) -> LayeredNetwork:
        """Gives the network with the maps of some of its layers alone."""
        outputs = {name: self.model.output[name] for name in names}
        return dataclasses.replace(self, model=keras.Model(self.model.input, outputs))

    def fresh(self, seed: int) -> LayeredNetwork:
        """Gives the same network with the weights that it would start with."""
        if not self.can_be_drawn:
            raise ValueError(
                "A network must be one whose layers can be reached, to draw its weights. "
                f"Received: {self.name}"
            )
        model = keras.models.clone_model(self.model)
        draw_weights(model, seed)
        return dataclasses.replace(self, model=model, name=f"{self.name}, untrained")


def open_layers(source: str | Path, *, seed: int = 0) -> LayeredNetwork:
    """Opens a network with the maps of all its activations, and of its output.

    The output is called "features" unless it is an activation itself. A module with attributes has
    their map as well, "attributes": 2 sigmoid(score) - 1 of each place, what attributes are relaxed
    to in training. Batch normalisation is folded into the weights. A SavedModel that cannot be
    taken apart has "features" alone.

    Args:
        source: As `keras_ctxattr.tasks.detection.transfer.open_feature_network` takes it: a module,
            a run of training.pretrain_context, a .keras file, a SavedModel or untrained:BACKBONE.
        seed: Of fresh weights.

    Raises:
        ValueError: If it is none of these.

    Reference:
        Huang, Loy, Tang 2016, section 4.2: "the feature maps of each layer".
    """
    opened = open_feature_network(source, seed=seed)
    _check_finite(opened)
    maps, inputs = _maps_of(opened)
    projection = _projection_of(source) if opened.can_be_rescaled else None
    if projection is not None:
        weights, offsets = projection
        scores = keras.layers.Dense(len(offsets), activation=_relax, name=ATTRIBUTES)
        maps[ATTRIBUTES] = scores(list(maps.values())[-1])
        scores.set_weights([weights, offsets])
    return LayeredNetwork(
        name=str(source),
        model=keras.Model(inputs, maps),
        processing=opened.processing,
        can_be_drawn=opened.can_be_rescaled,
    )


def _check_finite(opened: FeatureNetwork) -> None:
    """Refuses weights whose NaN some activations would turn into zeros, silently."""
    for variable in (opened.whole or opened.model).weights:
        if not np.isfinite(np.asarray(variable, np.float32)).all():
            raise ValueError(
                "All weights must be finite; take an earlier state of the network. Received: NaN "
                f"or infinity in {variable.path} of {opened.name}"
            )


def _maps_of(opened: FeatureNetwork) -> tuple[dict[str, Any], Any]:
    """Gives symbolic maps by name, the network's output last, and the input they are of."""
    if opened.whole is None:
        return {FEATURES: opened.model.output}, opened.model.input
    network = fold_batch_normalization(opened.whole)
    maps = activation_maps(network)
    if not any(output is network.output for output in maps.values()):
        maps[FEATURES] = network.output
    return maps, network.input


def _projection_of(source: str | Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Gives weights and offsets of a module's attributes; None where there are none."""
    try:
        folder = locate_module(source)
    except ValueError:
        return None
    return read_projection(folder) if "attributes" in read_module(folder) else None


@keras.saving.register_keras_serializable(package="keras_ctxattr")
def _relax(scores: Any) -> Any:
    return 2 * keras.ops.sigmoid(scores) - 1


def describe_pixels(
    network: LayeredNetwork,
    pixels: np.ndarray,
    grids: tuple[int, ...],
    *,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Gives the pooled features of every layer.

    Args:
        network: The network.
        pixels: Uint8 `[images, side, side, 3]`.
        grids: Bins a side of each grid that pools.
        progress: Called with (images done, images in all).

    Returns:
        Name of a layer -> float32 `[images, bins * channels]`.

    Raises:
        ValueError: If the images are too small for a layer, or features are not finite.
    """
    compute = _computer(network)
    found: dict[str, list[np.ndarray]] = {name: [] for name in network.layers}
    for start in range(0, len(pixels), BATCH_SIZE):
        maps = compute(tf.constant(pixels[start : start + BATCH_SIZE]))
        for name, rows in found.items():
            pooled = np.asarray(pool_maps(_check_map(maps[name], name, pixels), grids))
            rows.append(pooled.reshape(len(pooled), -1))
        if progress is not None:
            progress(min(start + BATCH_SIZE, len(pixels)), len(pixels))
    vectors = {name: np.concatenate(rows) for name, rows in found.items()}
    wrong = [name for name, rows in vectors.items() if not np.isfinite(rows).all()]
    if wrong:
        raise ValueError(
            "Features must be finite; take another network, or an earlier state of it. "
            f"Received: NaN or infinity in {wrong[0]} of {network.name}"
        )
    return vectors


def _computer(network: LayeredNetwork) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    processing = CanvasProcessing(**network.processing)

    @tf.function(reduce_retracing=True, autograph=False)
    def compute(images: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes = tf.tile(tf.shape(images)[None, 1:3], [tf.shape(images)[0], 1])
        return network.model(processing(images, sizes), training=False)

    return compute


def _check_map(maps: Any, name: str, pixels: np.ndarray) -> Any:
    if 0 in maps.shape:
        raise ValueError(
            "Images must be as large as what one place of each layer sees: scale them up with "
            f"`--side`. Received: {pixels.shape[1]} pixels a side, which leaves {name} empty"
        )
    return maps


def describe_by_hog(pixels: np.ndarray, grids: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Gives histograms of oriented gradients, what hand-made features know of the same images.

    Args:
        pixels: Uint8 `[images, side, side, 3]`.
        grids: Bins a side of each grid that pools.

    Returns:
        "hog": the whole descriptor; "hog pooled": its blocks as a map of 36 channels, pooled as the
        maps of networks are; float32 `[images, num_features]`.
    """
    hog = HOG(pixels.shape[1], cell=max(pixels.shape[1] * HOG_CELL // 150, 1))
    whole = hog(pixels)
    side = hog.blocks_per_side
    pooled = pool_maps(whole.reshape(len(pixels), side, side, -1), grids)
    return {"hog": whole, "hog pooled": np.asarray(pooled).reshape(len(pixels), -1)}
