"""Stage 2: all layers learn at the same rate."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.conversion.affine import ChannelAffine
from keras_ctxattr.backbones.initialization.affine import AFFINE
from keras_ctxattr.backbones.initialization.walking import Arguments, run_layer, walk

TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What stage 2 did.

    Attributes:
        ratios_before: for each layer the root mean square of its kernel's gradient over that of
            the kernel, before.
        ratios_after: the same afterwards.
        num_rounds: how often the layers were scaled.
    """

    ratios_before: Mapping[str, float]
    ratios_after: Mapping[str, float]
    num_rounds: int

    @property
    def spread(self) -> float:
        """The largest |log ratio / log target - 1| that is left; the stop test wants < 0.01."""
        return _spread(self.ratios_after)

    @property
    def converged(self) -> bool:
        """Whether the stop test was met."""
        return self.spread < TOLERANCE


def calibrate_layers(
    model: keras.Model, batches: Sequence[Sequence[Any]], *, max_rounds: int, seed: int
) -> Calibration:
    """Scales every kernel until all have the same ratio of gradient to weight.

    Args:
        model: functional or sequential model; its weights change.
        batches: for each batch the tensors for `model.inputs`.
        max_rounds: how often the layers are scaled at most.
        seed: of the gradients at the outputs.

    Returns:
        What was done.

    Raises:
        ValueError: if a layer has no finite ratio: its kernel is zero, or no gradient reaches it.

    Reference:
        Krähenbühl, Doersch, Donahue, Darrell 2016, section 4, algorithm 2, and the released code.
    """
    ratios = before = gradient_ratios(model, batches, seed)
    scales = _Rescaling(ratios={})
    walk(model, batches, scales.visit)
    num_rounds = 0
    while _spread(ratios) >= TOLERANCE and num_rounds < max_rounds:
        scales = _Rescaling(ratios=ratios, before=scales.inputs)
        walk(model, batches, scales.visit)
        num_rounds += 1
        ratios = gradient_ratios(model, batches, seed)
    return Calibration(ratios_before=before, ratios_after=ratios, num_rounds=num_rounds)


def gradient_ratios(
    model: keras.Model, batches: Sequence[Sequence[Any]], seed: int
) -> dict[str, float]:
    """Gives each kernel's sqrt(mean squared gradient / mean squared weight), by layer name.

    Every value of every output gets a standard normal gradient. The squared gradients of the
    batches are averaged; the released code takes one batch's.
    """
    kernels: dict[str, Any] = {}

    def note(layer: Any, calls: list[Arguments]) -> list[Any]:
        if isinstance(layer, AFFINE):
            kernels[layer.name] = layer.kernel.value
            tape.watch(layer.kernel.value)  # the frozen ones too
        return [run_layer(layer, call) for call in calls]

    squares: dict[str, list[float]] = {}
    for number, batch in enumerate(batches):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            (outputs,) = walk(model, [batch], note)
        gradients = tape.gradient(outputs, kernels, _top_gradients(outputs, seed, number))
        for name, gradient in gradients.items():
            squared = 0.0 if gradient is None else float(tf.reduce_mean(tf.square(gradient)))
            squares.setdefault(name, []).append(squared)
    powers = {name: float(tf.reduce_mean(tf.square(kernels[name]))) for name in kernels}
    _check_ratios(squares, powers)
    return {name: float(np.sqrt(np.mean(squares[name]) / powers[name])) for name in kernels}


def _top_gradients(outputs: Sequence[Any], seed: int, batch: int) -> list[Any]:
    # The released code draws anew in every round. With the same draws what is left of the spread
    # is the network's own, and the stop test does not depend on luck.
    return [
        tf.random.stateless_normal(tf.shape(output), [seed, batch * len(outputs) + number])
        for number, output in enumerate(outputs)
    ]


def _check_ratios(squares: Mapping[str, list[float]], powers: Mapping[str, float]) -> None:
    for name, values in squares.items():
        square, power = np.mean(values), powers[name]
        if not (0 < square < np.inf and 0 < power < np.inf):
            raise ValueError(
                "Each layer of `model` must have weights that are not all 0, and gradients from "
                f"the outputs on `batches`, to be calibrated. Received: {name!r}, mean squared "
                f"weight {power:.3g}, mean squared gradient {square:.3g}"
            )


def _target(ratios: Mapping[str, float]) -> float:
    """Gives the logarithm of the ratios' geometric mean.

    The released code adds the output's deviation, which ends at 1 then; here the output keeps the
    scale that stage 1 gave it, as far as the network is homogeneous.
    """
    return float(np.mean(np.log(list(ratios.values()))))


def _spread(ratios: Mapping[str, float]) -> float:
    target = _target(ratios)
    distance = float(np.max(np.abs(np.log(list(ratios.values())) - target)))
    return distance / max(abs(target), np.finfo(float).tiny)


class _Rescaling:
    """One round: every layer in turn, its input already that of the scaled layers before it.

    A bias must follow the scale of its layer's input. Up to ReLU and max pooling that is the
    product of the factors so far; local response normalisation and branches of different factors
    have no such product. So it is measured, as the authors do: the mean absolute input, over that
    of the round before. Where layers are homogeneous the two are the same number.

    Attributes:
        inputs: mean absolute input of each layer, by name.
    """

    def __init__(
        self, *, ratios: Mapping[str, float], before: Mapping[str, float] | None = None
    ) -> None:
        self.inputs: dict[str, float] = {}
        self._before = before or {}
        target = _target(ratios) if ratios else 0.0
        self._factors = {
            name: float(np.exp((np.log(ratio) - target) / 2)) for name, ratio in ratios.items()
        }

    def visit(self, layer: Any, calls: list[Arguments]) -> list[Any]:
        """Scales a layer, and runs it."""
        # A layer that is called again has been scaled.
        if isinstance(layer, (*AFFINE, ChannelAffine)) and layer.name not in self.inputs:
            self._scale(layer, [keras.tree.flatten(call)[0] for call in calls])
        return [run_layer(layer, call) for call in calls]

    def _scale(self, layer: Any, tensors: list[Any]) -> None:
        size = float(np.mean([np.abs(tensor).mean(dtype=np.float64) for tensor in tensors]))
        self.inputs[layer.name] = size
        before = self._before.get(layer.name, size)
        follow = size / before if before else 1.0
        factor = self._factors.get(layer.name, 1.0)
        if isinstance(layer, ChannelAffine):
            layer.offset.assign(layer.offset * follow)
            return
        if layer.bias is not None:
            layer.bias.assign(layer.bias * (follow * factor))
        layer.kernel.assign(layer.kernel * factor)
