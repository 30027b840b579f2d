"""Layers that treat the batch of all replicas as one device would."""

from typing import Any

import keras
from keras import ops

from keras_ctxattr.layers.replicas import num_replicas, own_rows, sum_over_replicas


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class SynchronizedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation whose mean and variance are those of the batch of all replicas together.

    On one device it is `keras.layers.BatchNormalization`. That layer's own `synchronized=True`
    averages the replicas' moments, and not at all where there is a mask: here each replica counts
    by its positions that are not masked, so that a batch gives the same however it is divided.

    Call arguments:
        inputs: float `[batch, ..., channels]`.
        training: whether to normalise by the batch.
        mask: bool, the shape of `inputs` without the channels; False leaves a position out of the
            statistics.

    Returns:
        float, the shape of `inputs`.

    Args:
        **kwargs: as for `keras.layers.BatchNormalization`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Gives mean and variance, float `[channels]`."""
        if num_replicas() == 1:
            return super()._moments(inputs, mask)
        axes = self._reduction_axes
        weights = ops.ones_like(inputs[..., :1])
        if mask is not None:
            weights = ops.cast(mask, inputs.dtype)[..., None]
        total, count = sum_over_replicas([ops.sum(weights * inputs, axes), ops.sum(weights, axes)])
        count = ops.maximum(count, 1)
        mean = total / count
        # In two passes: a difference of squares would lose what the variance is.
        squares = sum_over_replicas(ops.sum(weights * ops.square(inputs - mean), axes))
        return mean, squares / count


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class SynchronizedDropout(keras.layers.Dropout):
    """Dropout that drops the same of a batch, however many devices share it.

    On one device it is `keras.layers.Dropout`. That layer would drop the same units of every
    replica's first sample, of every second one, and so on.

    Call arguments:
        inputs: float `[batch, ...]`.
        training: whether anything is dropped.

    Returns:
        float, the shape of `inputs`.

    Args:
        rate: share of the units that are dropped, 0 to 1.
        **kwargs: as for `keras.layers.Dropout`.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Gives the values, in training some of them 0 and the others enlarged."""
        if num_replicas() == 1 or not training or not self.rate:
            return super().call(inputs, training=training)
        shape = ops.shape(inputs)
        whole = ops.ones((shape[0] * num_replicas(), *shape[1:]), dtype=inputs.dtype)
        return inputs * own_rows(super().call(whole, training=True), shape[0])
