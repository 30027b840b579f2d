"""Parts of a network: what of it is convolutional, and its maps by the size of their cells."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_ctxattr.backbones.conversion.folding import fold_batch_normalization
from keras_ctxattr.backbones.conversion.sliding import WindowConvolution2D, fully_convolutional
from keras_ctxattr.layers.pooling import CeilMaxPooling2D

_SIDE = 512  # pixels, at which the sizes of maps are compared
_POOLING = (
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    CeilMaxPooling2D,
)
_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


def convolutional_part(backbone: keras.Model, *, layer: str | None = None) -> keras.Model:
    """Gives a network up to the map that its last pooling takes, without batch normalisation.

    That is conv5 of AlexNet and conv5_3 of VGG-16, which pooling of regions continues in place of
    pool5. Where the network goes on to convolve after its last pooling (a residual network without
    its end), it is the last map. What follows a pooling as one convolution without padding, and
    1x1 ones after it, counts as fully connected layers in their convolutional form.

    Args:
        backbone: functional or sequential model, float32 `[batch, height, width, 3]` -> features.
        layer: name of the layer whose map to end at, if it is another.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]` -> float32 `[batch, rows, columns,
        channels]` for any height and width, with weights of its own.

    Raises:
        ValueError: if the backbone has no convolutional form, a normalisation that cannot be
            folded, or no such layer with a map.
    """
    sliding = fold_batch_normalization(fully_convolutional(backbone))
    if layer is None:
        end = _find_end(sliding, _dense_names(backbone))
        tensor = end[0].input if end else sliding.output
    else:
        tensor = _output_of(sliding, layer)
    return keras.Model(sliding.input, tensor, name=backbone.name)


def pyramid_parts(backbone: keras.Model, strides: Sequence[int] = (8, 16, 32)) -> keras.Model:
    """Gives a network's last maps at several sizes of cells, without batch normalisation.

    The maps of fully connected layers do not count.

    Args:
        backbone: as for `convolutional_part`.
        strides: pixels between the centres of neighbouring cells, of each map.

    Returns:
        A `keras.Model`, float32 `[batch, height, width, 3]` -> list of float32 `[batch, rows,
        columns, channels]`, one a stride.

    Raises:
        ValueError: as for `convolutional_part`, or if there is no map of a stride.
    """
    sliding = fold_batch_normalization(fully_convolutional(backbone))
    end = _find_end(sliding, _dense_names(backbone))
    connected = {layer.name for layer in end if not isinstance(layer, _POOLING)}
    sides = {name: side for name, side in _sides(sliding).items() if name not in connected}
    outputs = []
    for stride in strides:
        fitting = [one for one in sliding.layers if sides.get(one.name, 0) * stride == _SIDE]
        if not fitting:
            found = sorted({_SIDE // side for side in sides.values() if _SIDE % side == 0})
            raise ValueError(
                "`backbone` must have a map of every stride that is asked for. "
                f"Received: {stride}, where there are {', '.join(map(str, found))}"
            )
        outputs.append(fitting[-1].output)
    return keras.Model(sliding.input, outputs, name=backbone.name)


def _dense_names(backbone: keras.Model) -> set[str]:
    """Gives the names of the dense layers, which some of the convolutions have been."""
    nested = backbone._flatten_layers()  # not public; `layers` does not enter nested models
    return {layer.name for layer in nested if isinstance(layer, layers.Dense)}


def _find_end(sliding: keras.Model, dense: set[str]) -> list[Any]:
    """Gives the layers from the last pooling on, or from the first fully connected one on.

    Nothing where there is neither: where the last layers are convolutions, or where what follows a
    pooling takes more than it.
    """
    path = _last_layers(sliding)
    followers: list[Any] = []  # convolutions after the layer that is looked at
    first = None  # place of the first layer that is known to be fully connected
    for place, layer in enumerate(path):
        if isinstance(layer, _POOLING) and _are_connected(followers):
            return path[place::-1]
        if layer.name in dense or isinstance(layer, layers.Dense | WindowConvolution2D):
            first = place
        elif isinstance(layer, _CONVOLUTIONS):
            followers.insert(0, layer)
    return [] if first is None else path[first::-1]


def _last_layers(sliding: keras.Model) -> list[Any]:
    """Lists layers from the last one back, as far as each takes one tensor, of one layer."""
    producers = {id(layer.output): layer for layer in sliding.layers}
    path = []
    layer = producers.get(id(sliding.output))
    while layer is not None and isinstance(layer.input, keras.KerasTensor):
        path.append(layer)
        layer = producers.get(id(layer.input))
    return path


def _are_connected(convolutions: list[Any]) -> bool:
    """Tells whether these, in order, may be fully connected layers in their convolutional form."""
    if not convolutions:
        return True
    first, *others = convolutions
    is_window = isinstance(first, layers.Conv2D) and first.padding == "valid"
    return (
        is_window and first.strides == (1, 1) and all(one.kernel_size == (1, 1) for one in others)
    )


def _output_of(sliding: keras.Model, name: str) -> Any:
    names = [layer.name for layer in sliding.layers if len(getattr(layer.output, "shape", ())) == 4]
    if name not in names:
        raise ValueError(
            "`layer` must be the name of a layer that gives a map and is no batch normalisation: "
            f"{', '.join(names)}. Received: {name!r}"
        )
    return sliding.get_layer(name).output


def _sides(sliding: keras.Model) -> dict[str, int]:
    """Gives the side of every layer's map for a square image of `_SIDE` pixels."""
    fixed = keras.models.clone_model(
        sliding, input_tensors=keras.Input((_SIDE, _SIDE, 3), name="square")
    )
    maps = [layer for layer in fixed.layers[1:] if len(getattr(layer.output, "shape", ())) == 4]
    return {layer.name: layer.output.shape[1] for layer in maps}
