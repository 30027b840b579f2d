"""What a model and its batches must be for `initialize_from_batches`."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ctxattr.backbones.conversion.replay import describe, is_model
from keras_ctxattr.backbones.initialization.affine import AFFINE
from keras_ctxattr.backbones.initialization.filters import METHODS
from keras_ctxattr.backbones.initialization.walking import layer_paths


def check_settings(method: str, seed: int, max_rounds: int) -> None:
    """Refuses settings out of range."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {tuple(METHODS)}. Received: method={method!r}")
    if seed < 0 or max_rounds < 1:
        raise ValueError(
            "`seed` must be at least 0 and `max_rounds` at least 1. "
            f"Received: seed={seed}, max_rounds={max_rounds}"
        )


def check_layers(model: Any) -> None:
    """Refuses models with layers that cannot be initialised or followed."""
    if not is_model(model) or not model.built:
        raise ValueError(
            "`model` must be a functional or sequential keras.Model that is built. "
            f"Received: {type(model).__name__}"
        )
    found = [path[-1] for path in layer_paths(model)]
    for layer in found:
        _check_layer(layer)
    names = Counter(layer.name for layer in found if isinstance(layer, AFFINE))
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise ValueError(
            "Each convolution and dense layer of `model` must have its own name, also across "
            f"nested models. Received twice: {repeated}"
        )


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, layers.Layer):
        return  # an operation of keras.ops: it has neither weights nor a precision
    parts = layer._flatten_layers()
    if any(isinstance(part, layers.BatchNormalization) for part in parts):
        raise ValueError(
            "`model` must have no batch normalisation; `fold_batch_normalization` removes it. "
            f"Received: {describe(layer)}"
        )
    dtypes = {layer.compute_dtype, *(weight.dtype for weight in layer.weights)}
    if any("float" in dtype and dtype != "float32" for dtype in dtypes):
        raise ValueError(
            "`model` must have its weights, and compute, in float32; "
            "`fold_batch_normalization` gives such a copy. "
            f"Received: {describe(layer)} of policy {layer.dtype_policy.name!r}"
        )
    is_known = isinstance(layer, AFFINE)
    if not is_known and any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            "Layers of `model` with kernels must be Conv2D, DepthwiseConv2D or Dense. "
            f"Received: {describe(layer)}"
        )
    if is_known and getattr(layer, "data_format", None) == "channels_first":
        raise ValueError(f"`model` must be channels_last throughout. Received: {describe(layer)}")


def select_layers(model: keras.Model, transferred: Collection[str]) -> list[str]:
    """Lists the names of the layers that are to be initialised."""
    paths = [path for path in layer_paths(model) if isinstance(path[-1], AFFINE)]
    names = {layer.name for path in paths for layer in path}
    unknown = sorted(set(transferred) - names)
    if unknown:
        raise ValueError(
            f"`transferred` must name layers of filters of `model`: {sorted(names)}. "
            f"Received: {unknown}"
        )
    wanted = [path[-1] for path in paths if not any(layer.name in transferred for layer in path)]
    for layer in wanted:
        if layer.bias is None:
            raise ValueError(
                "Each layer of `model` that is not in `transferred` must have a bias (those before "
                "batch normalisation get one by `fold_batch_normalization`). "
                f"Received: {describe(layer)} without"
            )
    return [layer.name for layer in wanted]


def check_outputs(model: keras.Model) -> None:
    """Refuses outputs whose gradients a softmax has shrunk."""
    for layer in _output_layers(model):
        is_softmax = getattr(layer, "activation", None) is keras.activations.softmax
        if is_softmax or isinstance(layer, layers.Softmax):
            raise ValueError(
                "`model` must give what comes before the softmax, for `calibrate`. "
                f"Received: {describe(layer)} at its output"
            )


def _output_layers(model: Any) -> Iterator[Any]:
    for tensor in model.outputs:
        layer = tensor._keras_history.operation
        yield from _output_layers(layer) if is_model(layer) else [layer]


def read_batches(model: keras.Model, batches: Iterable[Any]) -> list[list[Any]]:
    """Gives for each batch the tensors for `model.inputs`."""
    read = [_read_batch(model, batch) for batch in batches]
    if not read:
        raise ValueError("`batches` must hold at least one batch. Received: none")
    return read


def _read_batch(model: keras.Model, batch: Any) -> list[Any]:
    names = [tensor.name for tensor in model.inputs]
    if isinstance(batch, Mapping):
        values = [batch[name] for name in names if name in batch]
    else:
        values = list(batch) if isinstance(batch, (list, tuple)) else [batch]
    if len(values) != len(names):
        raise ValueError(
            f"Each of `batches` must hold the model's inputs {names}. Received: {len(values)} of "
            f"{len(names)}"
        )
    tensors = [
        ops.convert_to_tensor(value, tensor.dtype)
        for value, tensor in zip(values, model.inputs, strict=True)
    ]
    if not all(np.isfinite(np.asarray(tensor)).all() for tensor in tensors):
        raise ValueError("`batches` must be finite. Received: NaN or infinity")
    return tensors
