"""What the replicas of a distributed training compute together; on one device, nothing changes.

To be called where `tf.distribute` runs a replica's step, as in `train_step` and in layers. On other
backends than TensorFlow there is one replica.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def num_replicas() -> int:
    """Gives how many replicas compute a step together, 1 without distribution."""
    return _context().num_replicas_in_sync if _is_distributed() else 1


def sum_over_replicas(values: Any) -> Any:
    """Gives the sum of a tensor, or of each of a list of them, over all replicas.

    Gradients pass through: what a replica's value adds to the losses of all of them.

    Args:
        values: float tensors, of the same shapes on every replica.
    """
    if not _is_distributed():
        return values
    return _context().all_reduce("SUM", values)


def gather_replicas(values: Any) -> Any:
    """Gives the rows of all replicas, in the replicas' order; gradients pass through.

    Args:
        values: `[batch, ...]`, of the same shape on every replica.

    Returns:
        `[replicas * batch, ...]`.
    """
    if not _is_distributed():
        return values
    # A sum of what all others have zeros for: `all_gather` fails among workers in TensorFlow 2.21.
    context = _context()
    own = ops.one_hot(
        context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=values.dtype
    )
    spread = ops.reshape(own, (-1,) + (1,) * len(values.shape)) * values[None]
    return sum_over_replicas(ops.reshape(spread, (-1, *values.shape[1:])))


def mean_over_replicas(values: Any) -> Any:
    """Gives the mean of a tensor over all replicas; gradients pass through.

    Args:
        values: float, of the same shape on every replica.
    """
    return sum_over_replicas(values) / num_replicas() if _is_distributed() else values


def first_row(count: Any) -> Any:
    """Gives the place of this replica's first row among the rows of all replicas, int32 `[]`.

    Args:
        count: rows of each replica.
    """
    return count * _context().replica_id_in_sync_group if _is_distributed() else 0


def own_rows(values: Any, count: Any) -> Any:
    """Gives this replica's rows of what was made for the rows of all replicas.

    So a draw is the same on every replica, and each takes its part: samples are treated as they
    would be on one device.

    Args:
        values: `[replicas * count, ...]`, the same on every replica.
        count: rows of each replica.
    """
    if not _is_distributed():
        return values
    first = first_row(count)
    return values[first : first + count]


def share_of_sum(value: Any) -> Any:
    """Gives a replica's share of the sum of a number over all replicas: 1 on one device.

    Args:
        value: float `[]`, at least 0, such as the weight of a replica's mean.
    """
    if not _is_distributed():
        return ops.ones_like(value)
    return value / ops.maximum(sum_over_replicas(value), 1)


def mean_results(metrics: Sequence[keras.metrics.Mean]) -> dict[str, Any]:
    """Gives the results of running means over what all replicas have counted, by name.

    Args:
        metrics: of a step that is under way; each replica has the sums of its own.
    """
    if not _is_distributed():
        return {metric.name: metric.result() for metric in metrics}
    totals, counts = sum_over_replicas(
        [
            ops.stack([metric.total + 0.0 for metric in metrics]),
            ops.stack([metric.count + 0.0 for metric in metrics]),
        ]
    )
    results = ops.divide_no_nan(totals, counts)
    return {metric.name: results[place] for place, metric in enumerate(metrics)}


def _context() -> Any:
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def _is_distributed() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # None between replicas, as when models are made
    return context is not None and context.num_replicas_in_sync > 1
