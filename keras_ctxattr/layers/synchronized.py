"""Batch normalisation over the batch of all replicas."""

from typing import Any

import keras
from keras import ops

from keras_ctxattr.layers.replicas import num_replicas, sum_over_replicas


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
