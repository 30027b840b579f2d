"""A model's layers one after the other, each on all batches before the next begins."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_ctxattr.backbones.conversion.replay import is_model

# How a layer is called on one batch.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
# Gives for a layer, and how it is called on each batch, what comes out of it for each batch.
Visit = Callable[[Any, list[Arguments]], list[Any]]


def walk(model: keras.Model, batches: Sequence[Sequence[Any]], visit: Visit) -> list[list[Any]]:
    """Calls `visit` in place of every layer of a model, nested models' layers included.

    Tensors that no later layer needs are let go at once: what is held at any time are the few that
    lie between two layers, of all batches.

    Args:
        model: functional or sequential model.
        batches: for each batch the tensors for `model.inputs`.
        visit: called once for each call of a layer, in the order of the graph.

    Returns:
        For each batch the tensors of `model.outputs`.
    """
    known = [dict(zip(map(id, model.inputs), batch, strict=True)) for batch in batches]
    nodes = list(_nodes(model))
    outputs = [id(tensor) for tensor in model.outputs]
    last_uses = {id(tensor): node for node in nodes for tensor in node.input_tensors}
    for node in nodes:
        calls = [node.arguments.fill_in(tensors) for tensors in known]
        results = _visit_deeper(node.operation, calls, visit)
        done = {key for key, last in last_uses.items() if last is node} - set(outputs)
        for tensors, result in zip(known, results, strict=True):
            tensors.update(zip(map(id, node.outputs), keras.tree.flatten(result), strict=True))
            for key in done:
                del tensors[key]
        del calls, results
    return [[tensors[key] for key in outputs] for tensors in known]


def run_layer(layer: Any, call: Arguments) -> Any:
    """Calls a layer as inference does."""
    args, kwargs = call
    # Some of Keras's augmentations take themselves to be in training unless told otherwise.
    takes_training = "training" in inspect.signature(layer.call).parameters
    options = {"training": False} if takes_training else {}
    return layer(*args, **{**options, **kwargs})


def layer_paths(model: keras.Model) -> Iterator[tuple[Any, ...]]:
    """Gives each layer once, in the order of the graph, after the nested models it is in."""
    seen: set[int] = set()
    for node in _nodes(model):
        layer = node.operation
        if id(layer) not in seen:
            seen.add(id(layer))
            inner = layer_paths(layer) if is_model(layer) else [()]
            yield from ((layer, *path) for path in inner)


def _visit_deeper(layer: Any, calls: list[Arguments], visit: Visit) -> list[Any]:
    if not is_model(layer):
        return visit(layer, calls)
    return walk(layer, [keras.tree.flatten(args[0]) for args, _ in calls], visit)


def _nodes(model: Any) -> Iterator[Any]:
    """Gives the calls of a model's graph, each after those whose results it takes."""
    # Not public, but what a functional model itself runs through; see `conversion.replay`.
    graph = model._functional if isinstance(model, keras.Sequential) else model
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (node for node in graph._nodes_by_depth[depth] if not node.is_input)
