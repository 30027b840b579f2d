"""Draws on the device that are a function of a seed in the batch, group by group."""

from typing import Any

import keras
from keras import ops


def set_seed(layer: keras.layers.Layer, seed: Any, number: int) -> None:
    """Makes the next draws of a random layer a function of a seed.

    Args:
        layer: has a `seed_generator`.
        seed: int `[2]`, of a group of samples.
        number: tells this layer from others that are given the same seed, 0 to 65535.
    """
    state = layer.seed_generator.state
    offset = ops.convert_to_tensor([0, number << 16], dtype=state.dtype)
    state.assign(ops.cast(seed, state.dtype) + offset)


def drop_by_group(
    layer: keras.layers.Dropout,
    values: Any,
    seeds: Any,
    number: int,
    training: bool | None = None,
) -> Any:
    """Applies a dropout whose draws are each group's own.

    Args:
        layer: the dropout.
        values: float `[samples, ...]`, as many of each group, one group after the other.
        seeds: int `[groups, 2]`, `groups` static; None goes on with the layer's own draws.
        number: see `set_seed`.
        training: whether anything is dropped.

    Returns:
        float, the shape of `values`.
    """
    if seeds is None or not training or not layer.rate:
        return layer(values, training=training)
    parts = []
    for seed, part in zip(ops.unstack(seeds), ops.split(values, seeds.shape[0]), strict=True):
        set_seed(layer, seed, number)
        parts.append(layer(part, training=training))
    return parts[0] if len(parts) == 1 else ops.concatenate(parts)
