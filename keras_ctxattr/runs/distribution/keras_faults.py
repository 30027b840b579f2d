"""What Keras 3.15 does wrong in `fit` and `evaluate` of several devices, contained in one place.

1. `_maybe_symbolic_build` takes the mean of the first batch over the replicas, which booleans have
   none of; with several workers it takes no nested structure at all. Our models are built before
   they are trained, and only the optimizer's variables remain to be made.
2. With several workers, the results of a step are reduced over axis 0 by `strategy.reduce`, and
   scalars have none. Our steps give the same results on all replicas
   (`keras_ctxattr.layers.replicas`), and what `fit` reports of an epoch is read from the metrics:
   the first local result is enough.

`tests/runs/test_distribution.py` runs plain Keras as well: it fails as soon as a newer Keras needs
neither, and this module can go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer


@contextlib.contextmanager
def contained(model: keras.Model, strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Makes `fit` and `evaluate` of a built model work inside the block.

    Args:
        model: the model, built.
        strategy: what it is trained with.
    """
    if strategy is None:
        yield
        return
    with strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
    reduce = trainer.reduce_per_replica

    def first_of(values: Any, used: tf.distribute.Strategy, reduction: str) -> Any:
        if used is not strategy or reduction not in ("auto", "mean"):
            return reduce(values, used, reduction)
        return keras.tree.map_structure(
            lambda one: strategy.experimental_local_results(one)[0], values
        )

    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: None
    trainer.reduce_per_replica = first_of
    try:
        yield
    finally:
        trainer.reduce_per_replica = reduce
        del model._maybe_symbolic_build


def apply_summed(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Any], variables: Sequence[Any]
) -> None:
    """Takes an optimizer's step by gradients that are summed over the replicas already.

    Keras sums them itself, and lets nobody see the sums; to sum them twice would double what is
    sent between machines.

    Args:
        optimizer: of the model.
        gradients: the same on every replica.
        variables: what they are of.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = _as_they_are
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def _as_they_are(pairs: Any) -> Any:
    return pairs
