"""What all SVMs share: the second moments of the negatives. They precondition and start them."""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.clustering.svm.problem import MATRIX, NUMBER, Block

MAX_BASIS = 3000  # features; past it an eigenbasis costs more than it saves
_SAMPLE_SCORES = 2048  # negatives on which starts are tried
_START_COUNTS = (30.0, 300.0, 3000.0)  # guesses of how many negatives will be active
_LINE_STEPS = 12
_TINY = 1e-12


class Spectrum:
    """Eigenvectors and eigenvalues of the negatives' second moments, the constant 1 included.

    Args:
        sample: random negatives in parts, float32 `[rows, num_features]`, at least one.
        num_negatives: how many there are in all.
        C: weight of a sample's loss.
    """

    def __init__(self, sample: Iterable[np.ndarray], num_negatives: int, C: float) -> None:
        self._C = C
        count, scored = 0, []
        total: Any = 0.0
        moments: Any = 0.0
        for part in sample:
            rows = np.concatenate([part, np.ones((len(part), 1), np.float32)], axis=1)
            if count < _SAMPLE_SCORES:
                scored.append(rows[: _SAMPLE_SCORES - count])
            full = rows.shape[1] <= MAX_BASIS
            moments = moments + (rows.T @ rows if full else (rows**2).sum(axis=0))
            total = total + rows.sum(axis=0, dtype=np.float64)
            count += len(rows)
        self._mean = tf.constant(total / count, tf.float32)
        self._scored = tf.constant(np.concatenate(scored))
        self._weight = num_negatives / len(self._scored)
        self.basis: tf.Tensor | None = None
        values = moments / np.float32(count)
        if full:
            values, vectors = np.linalg.eigh(values)
            self.basis = tf.constant(vectors, tf.float32)
        self._values = tf.constant(np.maximum(values, 0), tf.float32)

    def copy_to(self, device: str) -> "Spectrum":
        """Gives the same on a logical device, such as `"/device:GPU:1"`."""
        copied = copy.copy(self)
        with tf.device(device):
            for name, value in vars(self).items():
                if isinstance(value, tf.Tensor):
                    setattr(copied, name, tf.identity(value))
        return copied

    def precondition(self, directions: tf.Tensor, num_active: tf.Tensor) -> tf.Tensor:
        """Gives (I + 2 C n A)^-1 d for each cluster: A the second moments, n its active negatives.

        Args:
            directions: float32 `[num_features + 1, clusters]`.
            num_active: float32 `[clusters]`.
        """
        scale = 1.0 + 2.0 * self._C * self._values[:, None] * num_active[None, :]
        if self.basis is None:
            return directions / scale
        turned = tf.matmul(self.basis, directions, transpose_a=True)
        return tf.matmul(self.basis, turned / scale)

    def start(self, block: Block) -> tf.Tensor:
        """Gives weights to start from, float32 `[num_features + 1, clusters]`.

        The direction is that of linear discriminant analysis, regularised as if some number of
        negatives were active (the best of three guesses); its scale and bias minimise the objective
        on a sample of the negatives.
        """
        count = tf.reduce_sum(block.valid, axis=1)
        means = tf.einsum("kmd,km->dk", block.positives, block.valid) / count
        ones = tf.ones_like(count)[None]
        aim = tf.concat([means, ones], axis=0) - self._mean[:, None]
        tried = [self._scaled(block, aim, guess * tf.ones_like(count)) for guess in _START_COUNTS]
        objectives = tf.stack([objective for objective, _ in tried])  # [guess, cluster]
        weights = tf.stack([found for _, found in tried])  # [guess, feature, cluster]
        best = tf.argmin(objectives, axis=0, output_type=tf.int32)
        places = tf.stack([best, tf.range(tf.shape(best)[0])], axis=1)
        return tf.transpose(tf.gather_nd(tf.transpose(weights, (0, 2, 1)), places))

    def _scaled(
        self, block: Block, aim: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Gives (objective on the sample, weights) along one direction a cluster."""
        direction = self.precondition(aim, count)
        direction /= tf.norm(direction[:-1], axis=0) + _TINY
        slope = direction[:-1]
        negative = tf.matmul(self._scored[:, :-1], slope)
        positive = tf.einsum("kmd,dk->mk", block.positives, slope)
        valid = tf.transpose(block.valid)
        objective, scale, bias = _fit_line(
            negative, positive, valid, float(block.C), float(self._weight)
        )
        return objective, tf.concat([scale * slope, bias[None]], axis=0)


@tf.function(input_signature=[MATRIX, MATRIX, MATRIX, NUMBER, NUMBER], autograph=False)
def _fit_line(
    negative: tf.Tensor, positive: tf.Tensor, valid: tf.Tensor, C: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Minimises the objective over w = a v and the bias b, |v| = 1, for each column, by Newton."""
    # Start between the two classes: the mean negative at -1, the mean positive at 1.
    middle = tf.reduce_mean(negative, axis=0)
    mean = tf.reduce_sum(positive * valid, axis=0) / tf.reduce_sum(valid, axis=0)
    scale = 2.0 / tf.maximum(mean - middle, 1e-3)
    bias = -1.0 - scale * middle

    def hinge(scale: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        push = tf.nn.relu(1.0 + scale * negative + bias)
        return push, valid * tf.nn.relu(1.0 - scale * positive - bias)

    def total(negatives: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        sums = weight * tf.reduce_sum(negatives, axis=0) + tf.reduce_sum(positives, axis=0)
        return C * sums

    push, pull = hinge(scale, bias)
    least = 0.5 * (scale**2 + bias**2) + total(push**2, pull**2)
    best = (scale, bias)
    for _ in range(_LINE_STEPS):
        on, held = tf.cast(push > 0, tf.float32), tf.cast(pull > 0, tf.float32)
        slope_scale = scale + 2.0 * total(push * negative, -pull * positive)
        slope_bias = bias + 2.0 * total(push, -pull)
        curve_scale = 1.0 + 2.0 * total(on * negative**2, held * positive**2)
        curve_both = 2.0 * total(on * negative, held * positive)
        curve_bias = 1.0 + 2.0 * total(on, held)
        determinant = curve_scale * curve_bias - curve_both**2
        step_scale = (curve_both * slope_bias - curve_bias * slope_scale) / determinant
        step_bias = (curve_both * slope_scale - curve_scale * slope_bias) / determinant
        scale, bias = scale + step_scale, bias + step_bias
        push, pull = hinge(scale, bias)
        value = 0.5 * (scale**2 + bias**2) + total(push**2, pull**2)
        better = value < least
        least = tf.where(better, value, least)
        best = (tf.where(better, scale, best[0]), tf.where(better, bias, best[1]))
    return least, best[0], best[1]
