"""Networks to compare: modules, the same untrained, SavedModels and Keras models of others."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones import BACKBONES
from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.export import export_module, locate_module
from keras_ctxattr.export.attributes import middle_patch

SIDE = 224
"""Pixels of the square that a network gets which does not say what it takes."""

Describe = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network with what brings an image file to it.

    Attributes:
        name: What it is called in tables and pictures.
        about: What it is and what it sees of a photograph, in words.
        describe: From the contents of an image file, a string scalar, to float32 `[num_features]`.
    """

    name: str
    about: str
    describe: Describe


def open_networks(given: Sequence[str], *, seed: int = 0) -> list[Network]:
    """Opens networks by what a user calls them.

    - a folder of ours (a module, or what `ctxattr learn` wrote): photographs as it takes them;
    - `untrained`: the first of these folders with weights drawn anew;
    - `untrained:BACKBONE`: a network of `keras_ctxattr.backbones`, as it starts;
    - `keras:NAME`, `keras:NAME:random`: of `keras.applications`, with the weights of ImageNet,
      which are downloaded, or without; the mean over places of its last map;
    - another SavedModel: its signature `serving_default` has one input, float32 `[batch, height,
      width, 3]`, RGB in [0, 1], and one output `[batch, num_features]`;
    - a `.keras` file: one input likewise, RGB in 0 to 255, and one output.

    Those that are not ours see the largest square in the middle, scaled to the size they state or
    224 pixels. An output with places is averaged over them.

    Args:
        given: At least one.
        seed: Of weights that are drawn.

    Raises:
        ValueError: If one is none of these, or weights cannot be had.
    """
    opened = [_open(text, given, seed) for text in given]
    names = [network.name for network in opened]
    return [
        dataclasses.replace(network, name=text if names.count(network.name) > 1 else network.name)
        for network, text in zip(opened, given, strict=True)
    ]


def _open(text: str, given: Sequence[str], seed: int) -> Network:
    kind, _, rest = text.partition(":")
    if kind in OPENERS and not Path(text).exists():
        return OPENERS[kind](text, rest, given, seed)
    path = Path(text)
    if path.suffix == ".keras" and path.is_file():
        return _open_keras_file(path)
    if (path / "saved_model.pb").is_file() and not (path / "module.json").is_file():
        return _open_saved_model(path)
    try:
        folder = locate_module(path)
    except ValueError as error:
        raise ValueError(
            "A network must be a module, a SavedModel, a .keras file, `untrained[:BACKBONE]` or "
            f"`keras:NAME[:random]`. Received: {text}"
        ) from error
    return _of_module(tf.saved_model.load(str(folder)), path.name or text, f"module {folder}")


def _of_module(module: Any, name: str, about: str) -> Network:
    return Network(
        name=name,
        about=f"{about}; whole files as the module takes them",
        describe=lambda encoded: module.serve_bytes(encoded[None])[0],
    )


def _open_untrained(text: str, rest: str, given: Sequence[str], seed: int) -> Network:
    """Draws the weights of a module of ours, or of a backbone by name."""
    if rest:
        if rest not in BACKBONES:
            raise ValueError(
                f"`untrained:BACKBONE` must be one of {', '.join(BACKBONES)}. Received: {text}"
            )
        keras.utils.set_random_seed(seed)
        with tempfile.TemporaryDirectory() as scratch:
            target = export_module(BACKBONES[rest](), Path(scratch) / "module", normalize=True)
            module = tf.saved_model.load(str(target))
        return _of_module(module, f"untrained {rest}", f"{rest} as it starts, seed {seed}")
    for other in given:
        try:
            folder = locate_module(other)
        except ValueError:
            continue
        module = tf.saved_model.load(str(folder))
        draw_weights(module, seed)
        return _of_module(module, "untrained", f"{folder} with weights drawn anew, seed {seed}")
    raise ValueError(
        "`untrained` must come with a module of ours whose network it is; or name a backbone, "
        f"`untrained:compact`. Received: {', '.join(given)}"
    )


def draw_weights(module: Any, seed: int) -> None:
    """Gives a loaded module the weights that its network starts with.

    Kernels are uniform in +-sqrt(3 / fan_in), as all networks of `keras_ctxattr.backbones` start;
    normalisation starts without effect.

    Args:
        module: A module of ours, as `tf.saved_model.load` gives it.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    for variable in module.variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            bound = np.sqrt(3 / np.prod(shape[:-1]))
            variable.assign(generator.uniform(-bound, bound, shape).astype(np.float32))
        else:
            starts_at_one = any(part in variable.name for part in ("variance", "gamma"))
            variable.assign(tf.ones(shape) if starts_at_one else tf.zeros(shape))


def _open_application(text: str, rest: str, given: Sequence[str], seed: int) -> Network:
    """Builds a network of `keras.applications`."""
    name, _, how = rest.partition(":")
    build = getattr(keras.applications, name, None)
    if not callable(build) or how not in ("", "random"):
        raise ValueError(
            "`keras:NAME` must be a network of keras.applications, such as "
            f"keras:MobileNetV3Small, and may end in `:random`. Received: {text}"
        )
    keras.utils.set_random_seed(seed)
    options = {"include_top": False, "pooling": "avg", "input_shape": (SIDE, SIDE, 3)}
    try:
        model = build(weights=None if how else "imagenet", **options)
    except Exception as error:  # Keras raises Exception itself where a download fails
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The ImageNet weights of {name} must be downloaded, which failed; "
            f"`keras:{name}:random` needs none. Received: {reason}"
        ) from error
    prepare = sys.modules[build.__module__].preprocess_input
    weights = f"weights drawn, seed {seed}" if how else "weights of ImageNet"
    return Network(
        name=f"{name} random" if how else name,
        about=f"keras.applications.{name}, {weights}; middle square of {SIDE} pixels",
        describe=_describer(lambda pixels: model(prepare(pixels), training=False), SIDE, text),
    )


OPENERS: dict[str, Callable[[str, str, Sequence[str], int], Network]] = {
    "untrained": _open_untrained,
    "keras": _open_application,
}


def _open_keras_file(path: Path) -> Network:
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"A .keras file must be a model that Keras can load. Received: {path}: {reason}"
        ) from error
    side = _read_side(getattr(model, "input_shape", None), str(path))
    return Network(
        name=path.stem,
        about=f"Keras model {path}; middle square of {side} pixels, 0 to 255",
        describe=_describer(lambda pixels: model(pixels, training=False), side, str(path)),
    )


def _open_saved_model(folder: Path) -> Network:
    module = tf.saved_model.load(str(folder))
    function = module.signatures.get("serving_default")
    inputs = [] if function is None else list(function.structured_input_signature[1].values())
    outputs = [] if function is None else list(function.structured_outputs)
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].dtype != tf.float32:
        raise ValueError(
            "A SavedModel must have a signature `serving_default` with one input, float32 images "
            f"[batch, height, width, 3] in [0, 1], and one output. Received: {folder} with "
            f"{[spec.dtype.name for spec in inputs]} and {outputs}"
        )
    side = _read_side(inputs[0].shape, str(folder))
    (name,), (result,) = function.structured_input_signature[1], outputs

    def compute(pixels: tf.Tensor, kept: Any = module) -> tf.Tensor:
        del kept  # its variables live as long as somebody holds the module
        return function(**{name: pixels / 255})[result]

    return Network(
        name=folder.name,
        about=f"SavedModel {folder}; middle square of {side} pixels, 0 to 1",
        describe=_describer(compute, side, str(folder)),
    )


def _read_side(shape: Any, text: str) -> int:
    """Gives the side of the square images that a network takes, 224 where it takes any."""
    sides = tuple(shape) if isinstance(shape, tuple | tf.TensorShape) else ()
    if len(sides) != 4 or sides[3] != 3 or sides[1] != sides[2]:
        raise ValueError(
            "A network must take square RGB images, [batch, side, side, 3]. Received: "
            f"{list(sides) or 'no such input'} of {text}"
        )
    return int(sides[1] or SIDE)


def _describer(function: Callable[[tf.Tensor], Any], side: int, text: str) -> Describe:
    """Gives a function of encoded images from one of pixels in 0 to 255."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def describe(encoded: tf.Tensor) -> tf.Tensor:
        pixels = middle_patch(decode_image(encoded), side)
        features = function(tf.ensure_shape(pixels, [side, side, 3])[None])
        rank = getattr(getattr(features, "shape", None), "rank", None)
        if rank not in (2, 4):
            raise ValueError(
                "A network must give one vector an image, [batch, num_features], or a map of them. "
                f"Received: {getattr(features, 'shape', 'several outputs')} of {text}"
            )
        return tf.reduce_mean(features, [1, 2])[0] if rank == 4 else features[0]

    return describe
