"""A module as an ONNX file, compared with the module before it is kept."""

import contextlib
import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_ctxattr.export.writing import read_module
from keras_ctxattr.runs import write_atomically

OPSET = 17
"""Of ONNX: in every runtime since 2022, and the last before reductions took axes as an input."""

TOLERANCE = 1e-4
"""Largest difference from the module's results, as a share of the largest of them."""

_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
_MAX_BYTES = 2**31 - 2**20  # of one file: protobuf's limit, less what is not weights
_LOGGERS = ("tensorflow", "tf2onnx")


def export_onnx(module: str | Path, path: str | Path | None = None) -> Path:
    """Writes what a module computes of images as an ONNX file.

    Its input `images` is float32 RGB `[batch, height, width, 3]` in [0, 1], of any size from the
    module's patch on; smaller ones are an error. Its results are `features` float32 `[batch,
    num_features]`, and where the module has them `attributes` float32 `[batch, num_attributes]` and
    `codes` uint8 `[batch, num_attributes / 8]`. Preprocessing is inside; files are decoded by the
    caller. The file holds `module.json` as its metadata `module`.

    Args:
        module: folder that `export_module` wrote.
        path: file to write; `model.onnx` in the module if None. One that is there is replaced.

    Returns:
        The file.

    Raises:
        MissingPackageError: if a package of the extra `onnx` is missing.
        ValueError: if the folder holds no module, or the module cannot be written as ONNX: the
            message says why.
    """
    folder = Path(module)
    target = folder / "model.onnx" if path is None else Path(path)
    check_onnx_packages()
    described = read_module(folder)
    loaded = tf.saved_model.load(str(folder))
    _check_bytes(loaded, folder)
    function = _image_function(loaded, described)
    try:
        model = _convert(function, described)
        _compare(model.SerializeToString(), function, described)
    # The converter and the runtime have errors of many classes, and some of no text.
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:300]
        raise ValueError(
            "The module must consist of operations that ONNX has; use it as a SavedModel. "
            f"Received: {folder}, {reason}"
        ) from error
    with write_atomically(target, num_bytes=model.ByteSize()) as partial:
        partial.write_bytes(model.SerializeToString())
    return target


class MissingPackageError(ImportError):
    """A package of an extra is not installed. One line, with the command that installs it."""


def check_onnx_packages() -> None:
    """Fails unless everything that `export_onnx` needs is installed.

    Raises:
        MissingPackageError: if a package of the extra `onnx` is missing.
    """
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingPackageError(
                "ONNX needs packages of its own; pip install 'keras_ctxattr[onnx]'. "
                f"Received: no {name} ({error})"
            ) from error


def _check_bytes(loaded: Any, folder: Path) -> None:
    num_bytes = sum(4 * int(np.prod(variable.shape)) for variable in loaded.variables)
    if num_bytes > _MAX_BYTES:
        raise ValueError(
            "Weights must be under 2 GB to fit into one ONNX file; use the module as a SavedModel. "
            f"Received: {num_bytes / 2**30:.1f} GB in {folder}"
        )


def _image_function(loaded: Any, described: dict[str, Any]) -> Any:
    """Gives the function from images to all that the module knows of them, in order."""
    size = described["patch_size"]
    images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")

    @tf.function(autograph=False, input_signature=[images])
    def describe(images: tf.Tensor) -> list[tf.Tensor]:
        images *= _one_or_error(images, size)
        results = [loaded(images, training=False)]
        if "attributes" in described:
            results += [loaded.attributes(images), loaded.codes(images)]
        return results

    return describe


def _one_or_error(images: tf.Tensor, size: int) -> tf.Tensor:
    """Gives float32 [1], or fails where an image is too small.

    ONNX has no assertions, and those of the module are lost. A runtime names the operation that
    failed, so this one is named as the message should read.
    """
    is_small = tf.reduce_any(tf.shape(images)[1:3] < size)
    shape = [1 + tf.cast(is_small, tf.int32)]
    return tf.reshape(
        tf.constant([1.0]), shape, name=f"images_must_be_at_least_{size}_pixels_a_side"
    )


def _result_names(described: dict[str, Any]) -> list[str]:
    return ["features", *(("attributes", "codes") if "attributes" in described else ())]


def _convert(function: Any, described: dict[str, Any]) -> Any:
    """Gives the ONNX model, with the names of inputs, results and axes."""
    import onnx
    import tf2onnx

    graph, inputs, outputs = _freeze(function)
    names = dict(zip(outputs, _result_names(described), strict=True))
    with _quiet_loggers():
        model, _ = tf2onnx.convert.from_graph_def(
            graph,
            input_names=inputs,
            output_names=outputs,
            opset=OPSET,
            tensors_to_rename={inputs[0]: "images", **names},
        )
    _name_axes(model.graph.input[0], ["batch", "height", "width", None])
    for result in model.graph.output:
        _name_axes(result, ["batch", None])
    onnx.helper.set_model_props(model, {"module": json.dumps(described)})
    onnx.checker.check_model(model)
    return model


def _freeze(function: Any) -> tuple[Any, list[str], list[str]]:
    """Gives a function's graph with its weights as constants, and its inputs' and results' names.

    Keras compiles grouped convolutions into functions of their own, which a converter cannot see
    into: without these marks they are parts of the graph like all others.
    """
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    functions = graph.library.function
    for node in (*graph.node, *functions, *(node for one in functions for node in one.node_def)):
        for mark in ("_XlaMustCompile", "_noinline"):
            node.attr.pop(mark, None)
    inputs, outputs = ([tensor.name for tensor in side] for side in (frozen.inputs, frozen.outputs))
    return graph, inputs, outputs


def _name_axes(value: Any, names: list[str | None]) -> None:
    for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            axis.dim_param = name


def _compare(contents: bytes, function: Any, described: dict[str, Any]) -> None:
    """Fails unless a runtime gives what the module gives, on two sizes of images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    session = onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
    size, generator = described["patch_size"], np.random.default_rng(0)
    for shape in ((2, size, size, 3), (1, size + size // 3, 2 * size + 1, 3)):
        images = generator.uniform(0, 1, shape).astype(np.float32)
        found = session.run(_result_names(described), {"images": images})
        expected = [result.numpy() for result in function(tf.constant(images))]
        for name, ours, theirs in zip(_result_names(described), found, expected, strict=True):
            _check_close(name, ours, theirs, expected)


def _check_close(
    name: str, found: np.ndarray, expected: np.ndarray, results: list[np.ndarray]
) -> None:
    """Fails unless a result is the module's; bits of scores near 0 are rounding's."""
    if name == "codes":
        scores = results[1]
        is_clear = np.abs(scores) > 2 * TOLERANCE * np.abs(scores).max()
        bits = (np.unpackbits(codes, axis=1)[is_clear] for codes in (found, expected))
        error = float(np.any(np.not_equal(*bits)))
    else:
        error = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    if found.dtype != expected.dtype or not error <= TOLERANCE:
        raise ValueError(f"{name} differ from the module's by {error:.1e} of the largest")


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keeps back what converters log: what matters comes as an exception."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
