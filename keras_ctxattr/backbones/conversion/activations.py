"""The maps after every activation of a network: what its layers are known by."""

from typing import Any

import keras
from keras import layers

_ACTIVATIONS = (layers.ReLU, layers.Activation, layers.LeakyReLU, layers.ELU, layers.PReLU)


def activation_maps(network: keras.Model) -> dict[str, Any]:
    """Gives the maps of all activations, to read them in one pass.

    An activation is a layer of its own, or the end of a convolution that has one.

    Args:
        network: functional model, float32 `[batch, height, width, 3]` -> a map.

    Returns:
        Name of a layer -> its symbolic output `[batch, rows, columns, channels]`, in the network's
        order: `keras.Model(network.input, activation_maps(network))` computes them.

    Example:
        >>> from keras_ctxattr.backbones import compact
        >>> list(activation_maps(compact(width=8, input_size=None)))
        ['conv1_relu', 'conv2_relu', 'conv3_relu', 'conv4_relu', 'fc6_relu']
    """
    found = {layer.name: layer.output for layer in network.layers if _is_activation(layer)}
    return {name: output for name, output in found.items() if len(output.shape) == 4}


def _is_activation(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    own = activation is not None and activation is not keras.activations.linear
    return isinstance(layer, _ACTIVATIONS) or own
