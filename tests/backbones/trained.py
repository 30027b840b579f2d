"""Untrained networks whose normalisation does what a trained one's does."""

import keras
import numpy as np
from keras import layers


def give_random_statistics(model: keras.Model, seed: int = 0) -> keras.Model:
    """Makes a fresh network's normalisation do something, at its activations' scale."""
    generator = np.random.default_rng(seed)
    patches = generator.normal(0, 50, (8, *model.input_shape[1:])).astype("float32")
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            seen = keras.Model(model.input, layer.input)(patches).numpy()
            axes = tuple(range(seen.ndim - 1))
            spread = generator.uniform(0.5, 2, seen.shape[-1])
            layer.moving_mean.assign(seen.mean(axes) * spread)
            layer.moving_variance.assign(seen.var(axes) * spread)
    return model


def give_random_normalization(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every normalisation random statistics at its activations' scale, scales and shifts.

    One pass whatever the depth; the scales stay in bounds all the same.
    """
    generator = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0  # the running statistics become the next batch's
        for weight in (layer.gamma, layer.beta):
            if weight is not None:
                weight.assign(generator.uniform(0.3, 1.5, weight.shape))
    model(generator.normal(0, 50, (8, *model.input_shape[1:])).astype("float32"), training=True)
    for layer in norms:
        layer.moving_mean.assign(layer.moving_mean * generator.uniform(0.5, 2))
        layer.moving_variance.assign(
            layer.moving_variance * generator.uniform(0.5, 2, layer.moving_variance.shape)
        )
    return model
