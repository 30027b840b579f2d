"""Networks that detection starts from: their convolutional part, and how photographs come to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import BACKBONES
from keras_ctxattr.backbones.conversion import convolutional_part, fully_convolutional
from keras_ctxattr.context import ContextPredictor
from keras_ctxattr.context.training import load_predictor
from keras_ctxattr.export import load_network, locate_module, read_module
from keras_ctxattr.layers import PatchProcessing
from keras_ctxattr.runs import RunError
from keras_ctxattr.tasks.detection.saved_models import in_one_line, open_map

_SIDES = (256, 512)  # pixels of the two squares that tell stride and offset
_OURS = (AttributeHasher, ContextPredictor)  # Keras loads them only once they are imported


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FeatureNetwork:
    """The convolutional part of a network.

    Attributes:
        name: What it is, in words.
        model: float32 `[batch, height, width, 3]`, as `processing` gives them, to float `[batch,
            rows, columns, channels]`. Float32, without batch normalisation.
        whole: The network it is a part of, to fc6 and further; None where it cannot be taken apart.
        processing: What brings photographs to it: arguments of `CanvasProcessing`.
        stride: Pixels between the centres of neighbouring cells of the map.
        offset: Pixels from the image's edge to the first cell's.
    """

    name: str
    model: keras.Model
    whole: keras.Model | None
    processing: dict[str, Any]
    stride: float
    offset: float

    @property
    def can_be_rescaled(self) -> bool:
        """Whether its layers can be reached."""
        return self.whole is not None


def open_feature_network(
    source: str | Path, *, layer: str | None = None, seed: int = 0
) -> FeatureNetwork:
    """Opens a network to detect with, from whatever holds its weights.

    - a module of ours, or the folder of `ctxattr learn` that holds one;
    - the run folder of `training.pretrain_context`, finished or not;
    - a `.keras` file: a model of ours, which gets photographs as it was trained on them; one of
      our backbones alone gets them as `released`; any other model gets RGB in 0 to 255, as
      `ctxattr compare` gives it, so its own preprocessing must be a layer of it;
    - another SavedModel: a function or signature `feature_map`, else its signature
      `serving_default`, or the only one, from float32 `[batch, height, width, 3]` RGB in [0, 1] to
      one map; it is trained on as it is, and has no layers to rescale;
    - `untrained:BACKBONE`: one of `keras_ctxattr.backbones` with fresh weights.

    Args:
        source: One of these.
        layer: Name of the layer whose map to take; None as `convolutional_part` has it, the input
            of the last pooling.
        seed: Of fresh weights.

    Raises:
        ValueError: If it is none of these, or gives no map that grows with the image.
    """
    text, path = str(source), Path(source)
    if text.startswith("untrained:") and not path.exists():
        return _open_untrained(text, layer, seed)
    if path.suffix == ".keras" and path.is_file():
        return _open_keras_file(path, text, layer)
    opener = _opener_of(path)
    if opener is None:
        raise ValueError(
            "A network must be a module, a run of training.pretrain_context, a .keras file, a "
            f"SavedModel or untrained:{'|'.join(BACKBONES)}. Received: {source}"
        )
    return opener(path, text, layer)


def _opener_of(path: Path) -> Callable[[Path, str, str | None], FeatureNetwork] | None:
    try:
        locate_module(path)
        return _open_module
    except ValueError:
        pass
    if (path / "saved_model.pb").is_file():
        return _open_saved_model
    return _open_run if (path / "config.json").is_file() else None


def _open_untrained(text: str, layer: str | None, seed: int) -> FeatureNetwork:
    name = text.partition(":")[2]
    if name not in BACKBONES:
        raise ValueError(
            f"`untrained:BACKBONE` must be one of {', '.join(BACKBONES)}. Received: {text}"
        )
    keras.utils.set_random_seed(seed)
    return _of_model(BACKBONES[name](), text, layer)


def _open_keras_file(path: Path, text: str, layer: str | None) -> FeatureNetwork:
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(
            f"A .keras file must be a model that Keras can load. Received: {path}: "
            f"{in_one_line(error)}"
        ) from error
    return _of_model(model, text, layer)


def _open_run(path: Path, text: str, layer: str | None) -> FeatureNetwork:
    try:
        return _of_model(load_predictor(path), f"run {text}", layer)
    except RunError as error:
        raise ValueError(
            f"A run folder must be one of training.pretrain_context. Received: {path}: {error}"
        ) from error


def _open_module(path: Path, text: str, layer: str | None) -> FeatureNetwork:
    folder = locate_module(path)
    if layer is None and not (folder / "network.json").is_file():  # of an older version
        return _open_saved_model(folder, text, layer)
    described = read_module(folder)["processing"]
    processing = {"preset": described["preset"], "colour": described["colour"]}
    if described["preset"] == "paper":
        processing["mean"] = tuple(described["normalization"]["mean"])
    return _of_network(load_network(folder), f"module {text}", layer, processing)


def _of_model(model: Any, name: str, layer: str | None) -> FeatureNetwork:
    """Takes the backbone of a model of ours, or a model itself."""
    if not isinstance(model, _OURS):
        preset = "released" if _is_backbone(model) else "none"
        return _of_network(model, name, layer, {"preset": preset})
    if model.backbone is None:
        raise ValueError(
            "A model of attributes must have a backbone to detect with; this one has learnt from "
            f"features alone. Received: {name}"
        )
    processing: PatchProcessing = model.processing
    # Dropped colours have their place in training; here nothing is drawn.
    colour = processing.colour if processing.colour == "project" else "none"
    described = {"preset": processing.preset, "colour": colour, "mean": processing.mean}
    return _of_network(model.backbone, name, layer, described)


def _is_backbone(model: keras.Model) -> bool:
    """Tells whether a model is one of `keras_ctxattr.backbones`; Keras has a vgg16 as well."""
    names = {one.name for one in model.layers}
    return model.name in BACKBONES and {"fc6", "fc6_relu"} <= names


def _of_network(
    network: keras.Model, name: str, layer: str | None, processing: dict[str, Any]
) -> FeatureNetwork:
    part = convolutional_part(network, layer=layer)
    stride, offset = measure_map(part)
    return FeatureNetwork(
        name=name,
        model=part,
        whole=fully_convolutional(network),
        processing=processing,
        stride=stride,
        offset=offset,
    )


def _open_saved_model(folder: Path, text: str, layer: str | None) -> FeatureNetwork:
    if layer is not None:
        raise ValueError(
            "`layer` belongs to networks whose layers can be reached; a plain SavedModel has none. "
            f"Received: layer={layer!r} for {folder}"
        )
    model, (stride, offset) = open_map(folder, measure_map)
    return FeatureNetwork(
        name=f"SavedModel {text}",
        model=model,
        whole=None,
        processing={"preset": "unit"},
        stride=stride,
        offset=offset,
    )


def measure_map(model: keras.Model) -> tuple[float, float]:
    """Gives (stride, offset) of a map, from its sides for squares of two sizes."""
    sides = [
        np.shape(model(np.zeros((1, side, side, 3), "float32"), training=False))[1]
        for side in _SIDES
    ]
    if sides[1] <= sides[0]:
        raise ValueError(
            "The map of a network to detect with must grow with the image. Received: "
            f"{sides[0]} cells a side for {_SIDES[0]} pixels, {sides[1]} for {_SIDES[1]}"
        )
    stride = (_SIDES[1] - _SIDES[0]) / (sides[1] - sides[0])
    return stride, max((_SIDES[0] - sides[0] * stride) / 2, 0.0)


def load_detection_model(path: Path) -> Any:
    """Loads a trained detector's network.

    One that holds a plain SavedModel reads it from where it was: that is as safe as the run folder,
    which names it.
    """
    return keras.saving.load_model(path, compile=False, safe_mode=False)


def under_policy(part: keras.Model, policy: str) -> keras.Model:
    """Gives a copy of a functional model that computes under a dtype policy, with its weights.

    The layer that holds a plain SavedModel stays in float32, which is all it can.
    """

    def renew(layer: Any) -> Any:
        if isinstance(layer, keras.layers.TFSMLayer):
            return layer
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    if any(isinstance(layer, keras.layers.TFSMLayer) for layer in part.layers):
        return part
    copy = keras.models.clone_model(part, clone_function=renew)
    copy.set_weights(part.get_weights())
    return copy


def for_inference(network: keras.Model) -> keras.Model:
    """Gives the same function with weights stored as layers compute with them.

    Under a mixed policy every call casts all weights anew, which takes a quarter of the time of a
    photograph where layers are as large as fc6. Results do not change by a bit. What computes in
    float32 is shared with the network given; the rest is a copy, which later training leaves alone.
    """

    def renew(layer: Any) -> Any:
        policy = layer.dtype_policy
        if policy.compute_dtype == policy.variable_dtype:
            return layer
        return type(layer).from_config({**layer.get_config(), "dtype": policy.compute_dtype})

    if all(layer is renew(layer) for layer in network._flatten_layers(include_self=False)):
        return network
    copy = keras.models.clone_model(network, clone_function=renew, recursive=True)
    for variable, weight in zip(copy.weights, network.weights, strict=True):
        if variable is not weight:
            variable.assign(weight)
    return copy
