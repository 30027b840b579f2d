"""Deep hashing: a small network of tanh layers on fixed features."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from keras_ctxattr.attributes.axes import principal_axes
from keras_ctxattr.attributes.baselines.base import FeatureHashing

_HIDDEN = {16: (60, 30), 32: (80, 50), 64: (100, 80)}  # units, for up to so many bits

Layers = list[tuple[np.ndarray, np.ndarray]]


class DeepHashing(FeatureHashing):
    """DH: two hidden layers and a layer of bits, all tanh, whose outputs H come near to signs B.

    What is minimised is 1/2 |B - H|^2 - `variance` tr(H H^T) / 2n + `independence` / 2 sum over the
    layers of |W W^T - I|^2 + `decay` / 2 sum of |W|^2 + |c|^2, by L-BFGS over all samples, B being
    set to the signs of H between the rounds. Features are centred, and divided by one number to a
    variance of 1 along the axis of most variance. The first layer begins as principal axes, the
    others as random rotations; optimiser, rounds and scaling are ours.

    Args:
        num_bits: a multiple of 8.
        hidden: units of the hidden layers; None takes the paper's for so many bits.
        variance: lambda 1.
        independence: lambda 2.
        decay: lambda 3.
        num_rounds: how often B is set.
        num_iterations: of L-BFGS in a round, at most.
        random_state: seed of the start.

    Reference:
        Erin Liong, Lu, Wang, Moulin, Zhou 2015, "Deep hashing for compact binary codes learning",
        section 3.1.
    """

    def __init__(
        self,
        num_bits: int = 64,
        *,
        hidden: Sequence[int] | None = None,
        variance: float = 100.0,
        independence: float = 1e-3,
        decay: float = 1e-3,
        num_rounds: int = 5,
        num_iterations: int = 30,
        random_state: int = 0,
    ) -> None:
        super().__init__(num_bits, random_state=random_state)
        self.hidden = hidden
        self.variance = variance
        self.independence = independence
        self.decay = decay
        self.num_rounds = num_rounds
        self.num_iterations = num_iterations

    def _learn(self, vectors: np.ndarray) -> None:
        # Of the axis of most variance: larger features would begin in the flat part of tanh.
        lengths = vectors @ principal_axes(vectors, 1)
        self.scale_ = max(float(np.sqrt(np.square(lengths).mean())), 1e-12)
        inputs = vectors / self.scale_
        layers = self._begin(inputs)
        for _ in range(self.num_rounds):
            signs = np.where(_outputs(inputs, layers)[-1] > 0, 1.0, -1.0)
            shapes = [weights.shape for weights, _ in layers]
            found = minimize(
                self._objective,
                _flatten(layers),
                args=(inputs, signs, shapes),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": self.num_iterations},
            )
            layers = _restore(found.x, shapes)
        self.layers_ = layers

    def _score(self, vectors: np.ndarray) -> np.ndarray:
        return _outputs(vectors / self.scale_, self.layers_)[-1]

    def _begin(self, inputs: np.ndarray) -> Layers:
        """Gives layers that keep the directions of most variance."""
        generator = np.random.default_rng(self.random_state)
        hidden = self.hidden or _HIDDEN[min((n for n in _HIDDEN if n >= self.num_bits), default=64)]
        layers, before = [], inputs.shape[1]
        for place, units in enumerate((*hidden, self.num_bits)):
            weights = _orthonormal(generator, before, units)
            if place == 0:
                axes = principal_axes(inputs, min(units, before))
                weights[:, : axes.shape[1]] = axes
            layers.append((weights, np.zeros(units)))
            before = units
        return layers

    def _objective(
        self,
        flat: np.ndarray,
        inputs: np.ndarray,
        signs: np.ndarray,
        shapes: list[tuple[int, int]],
    ) -> tuple[float, np.ndarray]:
        """Gives what is minimised, and its gradient."""
        layers = _restore(flat, shapes)
        outputs = _outputs(inputs, layers)
        rest = outputs[-1] - signs
        share = self.variance / len(inputs)
        value = 0.5 * np.square(rest).sum() - 0.5 * share * np.square(outputs[-1]).sum()
        push = rest - share * outputs[-1]
        gradients: Layers = []
        for (weights, bias), given, given_out in zip(
            layers[::-1], [inputs, *outputs][-2::-1], outputs[::-1], strict=True
        ):
            push = push * (1 - np.square(given_out))
            # The papers' W maps columns: their W W^T is our weights^T weights.
            excess = weights.T @ weights - np.eye(weights.shape[1])
            value += 0.5 * self.independence * np.square(excess).sum()
            value += 0.5 * self.decay * (np.square(weights).sum() + np.square(bias).sum())
            slope = given.T @ push + 2 * self.independence * weights @ excess
            gradients.append((slope + self.decay * weights, push.sum(axis=0) + self.decay * bias))
            push = push @ weights.T
        return float(value), _flatten(gradients[::-1])


def _outputs(inputs: np.ndarray, layers: Layers) -> list[np.ndarray]:
    """Gives what every layer puts out."""
    outputs = []
    for weights, bias in layers:
        inputs = np.tanh(inputs @ weights + bias)
        outputs.append(inputs)
    return outputs


def _orthonormal(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Gives a matrix whose columns, or if it is wide its rows, are orthonormal."""
    drawn = generator.standard_normal((max(rows, columns), min(rows, columns)))
    square = np.linalg.qr(drawn)[0]
    return square if rows >= columns else square.T


def _flatten(layers: Layers) -> np.ndarray:
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def _restore(flat: np.ndarray, shapes: list[tuple[int, int]]) -> Layers:
    layers, start = [], 0
    for rows, columns in shapes:
        middle, end = start + rows * columns, start + (rows + 1) * columns
        layers.append((flat[start:middle].reshape(rows, columns), flat[middle:end]))
        start = end
    return layers
