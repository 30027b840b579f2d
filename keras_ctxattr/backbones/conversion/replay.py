"""A backbone as the sequence of its layers' calls, and a new model from such a sequence."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_PATCH_SIZE = 96  # of a backbone that leaves its input size open


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One layer applied once: to which symbolic tensors, and what came out."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def inputs(self) -> list[Any]:
        """Lists the symbolic tensors among the arguments."""
        tensors = keras.tree.flatten((self.args, self.kwargs))
        return [tensor for tensor in tensors if isinstance(tensor, keras.KerasTensor)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """A float32 copy of a backbone at a static input size, as the sequence of its calls."""

    model: keras.Model
    calls: list[Call]

    def calls_of(self, layer: Any) -> int:
        """Counts how often a layer is applied."""
        return sum(call.layer is layer for call in self.calls)


def trace_calls(backbone: keras.Model, patch_size: int | None) -> Trace:
    """Copies a backbone in float32, nested models spread out, and lists its calls."""
    _check_replayable(backbone)
    height, width = backbone.input_shape[1:3]
    size = (patch_size or height or _PATCH_SIZE, patch_size or width or _PATCH_SIZE)
    inputs = keras.Input((*size, 3), name=backbone.inputs[0].name)
    calls: list[Call] = []
    copies: dict[int, Any] = {}

    def run(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if is_model(layer):
            return _replay(layer, args[0], run)
        if id(layer) not in copies:
            copies[id(layer)] = _copy(layer)
        copy = copies[id(layer)]
        result = _apply(copy, args, kwargs)
        _copy_weights(layer, copy)
        calls.append(Call(layer=copy, args=args, kwargs=kwargs, result=result))
        return result

    outputs = _replay(backbone, inputs, run)
    return Trace(model=keras.Model(inputs, outputs, name=backbone.name), calls=calls)


def _check_replayable(backbone: Any) -> None:
    """Refuses what has no graph of layers from one image to one output."""
    if not is_model(backbone) or not backbone.built:
        raise ValueError(
            "`backbone` must be a functional or sequential keras.Model that is built; a subclass "
            f"with its own `call` has no graph to convert. Received: {type(backbone).__name__}"
        )
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1 or len(backbone.input_shape) != 4:
        raise ValueError(
            "`backbone` must have one input [batch, height, width, 3] and one output. "
            f"Received: inputs {backbone.input_shape}, outputs {backbone.output_shape}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "`keras.config.image_data_format()` must be 'channels_last' for a conversion. "
            f"Received: {keras.config.image_data_format()!r}"
        )


def is_model(layer: Any) -> bool:
    """Tells whether a layer is a graph of layers itself."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "_run_through_graph")


def _replay(model: Any, flow: Any, run: Callable[..., Any]) -> Any:
    """Calls `run` in place of every layer of a model, in order."""
    if isinstance(model, keras.Sequential):
        return functools.reduce(lambda tensor, layer: run(layer, tensor), model.layers, flow)
    # Not public, but what keras.models.clone_model stands on; that one cannot enter nested models.
    return model._run_through_graph(flow, lambda layer: functools.partial(run, layer))


def rebuild(
    trace: Trace, input_shape: tuple[int | None, ...], run: Callable[[Call, Any, Any], Any]
) -> keras.Model:
    """Makes a model from a trace, `run` deciding what each call becomes."""
    inputs = keras.Input(input_shape, name=trace.model.inputs[0].name)
    tensors = {id(trace.model.inputs[0]): inputs}

    def renew(value: Any) -> Any:
        return tensors.get(id(value), value)

    for call in trace.calls:
        args, kwargs = keras.tree.map_structure(renew, (call.args, call.kwargs))
        results = keras.tree.flatten(run(call, args, kwargs))
        for old, new in zip(keras.tree.flatten(call.result), results, strict=True):
            tensors[id(old)] = new
    return keras.Model(inputs, renew(trace.model.outputs[0]), name=trace.model.name)


class Copies:
    """New layers in place of a trace's, each made once however often it is called."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def apply(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Calls a copy of the layer that has its weights."""
        copy = self._made(call.layer, lambda: _copy(call.layer))
        result = _apply(copy, args, kwargs)
        _copy_weights(call.layer, copy)
        return result

    def apply_instead(
        self, call: Call, make: Callable[[], Any], weights: list[np.ndarray], tensor: Any
    ) -> Any:
        """Calls what `make` gives in place of the layer, with these weights."""
        layer = self._made(call.layer, make)
        result = _apply(layer, (tensor,), {})
        layer.set_weights(weights)
        return result

    def _made(self, layer: Any, make: Callable[[], Any]) -> Any:
        if id(layer) not in self._copies:
            self._copies[id(layer)] = make()
        return self._copies[id(layer)]


def _copy(layer: Any) -> Any:
    """Gives a float32 twin without its weights."""
    try:
        return type(layer).from_config(_in_float32(layer.get_config()))
    except Exception as error:
        raise _refusal(layer, error) from error


def _in_float32(config: Any) -> Any:
    """Replaces every dtype policy in a configuration."""
    if isinstance(config, dict):
        if "DTypePolicy" in str(config.get("class_name", "")):
            return "float32"
        renewed = {key: _in_float32(value) for key, value in config.items()}
        return {**renewed, "dtype": "float32"} if isinstance(config.get("dtype"), str) else renewed
    return [_in_float32(value) for value in config] if isinstance(config, list) else config


def _copy_weights(layer: Any, copy: Any) -> None:
    if getattr(layer, "weights", None):
        copy.set_weights([np.asarray(weight, "float32") for weight in layer.get_weights()])


def _apply(layer: Any, args: Any, kwargs: Any) -> Any:
    try:
        return layer(*args, **kwargs)
    except Exception as error:
        raise _refusal(layer, error) from error


def _refusal(layer: Any, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(
        "`backbone` must consist of layers that can be copied and, for the convolutional form, "
        f"take maps of any size. Received: {describe(layer)}, which says: {reason}"
    )


def describe(layer: Any) -> str:
    """Names a layer and its class, for messages."""
    return f"{type(layer).__name__} {layer.name!r}"


def check_equal(trace: Trace, converted: keras.Model) -> None:
    """Refuses a conversion that is not the same function on a patch."""
    shape = (2, *trace.model.input_shape[1:])
    patches = np.random.default_rng(0).normal(0, 50, shape).astype("float32")
    expected = np.ravel(trace.model(patches, training=False))
    found = np.ravel(converted(patches, training=False))
    scale = np.max(np.abs(expected), initial=1e-6)
    if expected.shape != found.shape or not np.allclose(
        found, expected, rtol=0, atol=1e-3 * scale, equal_nan=True
    ):
        raise ValueError(
            "`backbone` must give the same features once converted; one of its layers depends on "
            f"the size of its input in a way that is not known here. Received: {trace.model.name}"
        )
