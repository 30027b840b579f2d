"""Both stages on one model."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ctxattr.backbones.initialization.affine import AFFINE, activate, moments, respond
from keras_ctxattr.backbones.initialization.calibration import Calibration, calibrate_layers
from keras_ctxattr.backbones.initialization.checks import (
    check_layers,
    check_outputs,
    check_settings,
    read_batches,
    select_layers,
)
from keras_ctxattr.backbones.initialization.scaling import initialize_layer
from keras_ctxattr.backbones.initialization.walking import Arguments, run_layer, walk


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitializationReport:
    """What `initialize_from_batches` did, layers by name in the order of the graph.

    Attributes:
        methods: where each initialised layer's filters are from; `"gaussian"` also where the
            method asked for had too few samples.
        stds: after stage 1, the standard deviation of each channel's response (before the
            activation) over all batches and positions, float64 `[channels]`; transferred layers
            too. 1 for initialised layers, but 0 for a channel that does not vary.
        calibration: what stage 2 did, or None without it.
    """

    methods: Mapping[str, str]
    stds: Mapping[str, np.ndarray]
    calibration: Calibration | None


def initialize_from_batches(
    model: keras.Model,
    batches: Iterable[Any],
    *,
    transferred: Collection[str] = (),
    method: str = "kmeans",
    calibrate: bool = True,
    seed: int = 0,
    max_rounds: int = 10,
) -> InitializationReport:
    """Gives a model's layers weights from data, and all of them one rate of learning.

    **Changes the weights of `model`**, of frozen layers too. Convolutions and dense layers are
    meant; all else is left alone.

    Stage 1 goes through the layers that are not transferred, in the order of the graph, the ones
    before already initialised. Filters are k-means centres of the layer's whitened inputs
    (`"kmeans"`), their principal directions (`"pca"`) or random (`"gaussian"`); then every
    channel is scaled to responses of standard deviation 1 and mean 0.1. Gaussian whatever the
    method: layers with fewer samples (positions of all images, or regions) than filters, and
    depthwise convolutions. A layer that is called several times is initialised for its first call.

    Stage 2 (`calibrate`) scales all layers, transferred ones too, until each kernel's gradient
    has the same size relative to the kernel. A chain of convolutions, ReLUs and max pooling keeps
    its outputs, as the factors' product is 1; with other layers, or branches, outputs change
    in scale (the AlexNet of two local response normalisations: deviation .7). The unit responses
    of stage 1 are lost inside.

    Output layers are layers like any other: their responses start at deviation 1, so a softmax
    behind them starts with opinions and a loss above log(classes).

    Args:
        model: functional or sequential `keras.Model` in float32, of any number of inputs, nested
            models allowed. Its outputs are those before a softmax.
        batches: inputs of the model: for each batch an array, a list in the order of
            `model.inputs`, or a dict by their names. All batches, and what lies between two
            layers for all of them, are in memory at once. Some hundred images.
        transferred: names of layers that keep the weights they have in stage 1; a nested model's
            name stands for all its layers.
        method: `"kmeans"`, `"pca"` or `"gaussian"`.
        calibrate: whether stage 2 follows.
        seed: of all draws, at least 0.
        max_rounds: rounds of stage 2 at most, at least 1.

    Returns:
        What was done.

    Raises:
        ValueError: if a layer to initialise has no bias, the model has batch normalisation
            (`fold_batch_normalization` mends both), or weights of another kind; if its precision
            is not float32 or its layers share names; if stage 2 finds a softmax at the output or a
            layer without gradients; if an argument is not as above.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> maps = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        >>> scores = keras.layers.Dense(2, name="top")(keras.layers.Flatten()(maps))
        >>> model = keras.Model(inputs, scores)
        >>> images = np.random.default_rng(0).normal(size=(64, 8, 8, 3))
        >>> report = initialize_from_batches(model, [images[:32], images[32:]])
        >>> report.methods["conv"], report.stds["conv"].round(3).tolist()
        ('kmeans', [1.0, 1.0, 1.0, 1.0])
        >>> report.calibration.converged
        True

    Reference:
        Krähenbühl, Doersch, Donahue, Darrell 2016, section 4, algorithms 1 and 2, and the released
        code; used by Doersch, Gupta, Efros 2015, section 4.3.
    """
    check_settings(method, seed, max_rounds)
    check_layers(model)
    chosen = select_layers(model, transferred)
    if calibrate:
        check_outputs(model)
    flat = read_batches(model, batches)
    stage = _Initialization(chosen, method, np.random.default_rng(seed))
    walk(model, flat, stage.visit)
    done = calibrate_layers(model, flat, max_rounds=max_rounds, seed=seed) if calibrate else None
    return InitializationReport(methods=stage.methods, stds=stage.stds, calibration=done)


class _Initialization:
    """Stage 1, layer by layer."""

    def __init__(self, chosen: Sequence[str], method: str, generator: np.random.Generator) -> None:
        self.methods: dict[str, str] = {}
        self.stds: dict[str, np.ndarray] = {}
        self._chosen = chosen
        self._method = method
        self._generator = generator

    def visit(self, layer: Any, calls: list[Arguments]) -> list[Any]:
        """Initialises a layer if it is to be, and runs it."""
        if not isinstance(layer, AFFINE) or layer.name in self.stds:
            return [run_layer(layer, call) for call in calls]
        tensors = [keras.tree.flatten(call)[0] for call in calls]
        if layer.name in self._chosen:
            self.methods[layer.name] = initialize_layer(
                layer, tensors, self._method, self._generator
            )
        responses = [respond(layer, tensor) for tensor in tensors]
        _, self.stds[layer.name] = moments(responses)
        return [activate(layer, response) for response in responses]
