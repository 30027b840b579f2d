"""From a trained model to a module's folder, and what its module.json says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.conversion import fully_convolutional
from keras_ctxattr.export.attributes import AttributeModule
from keras_ctxattr.export.module import MAX_ASPECT, PHOTO_PIXELS, FeatureModule
from keras_ctxattr.export.network import write_network
from keras_ctxattr.layers import PatchProcessing, RandomDownsampling
from keras_ctxattr.runs import write_atomically, write_json
from keras_ctxattr.runs.identity import versions
from keras_ctxattr.runs.writing import json_types

FORMAT = 1
"""Of module.json and of what a module offers; raised when a reader of the old one would fail."""

COLOURS = ("none", "project")
UNITS = ("patch", "image")


def export_module(
    model: keras.Model,
    directory: str | Path,
    *,
    colour: str = "none",
    preset: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    overwrite: bool = False,
    unit: str = "patch",
    normalize: bool = False,
) -> Path:
    """Writes the features of a trained model as a reusable SavedModel.

    The module computes in float32 whatever policy trained the model. Its preprocessing is the
    training's without what is random: x 255, the colour guard if asked for, then as the preset
    says. `released`: each channel's mean over the *image* is removed and the image brought to a
    root mean square of 50 (training does so per patch; for an image of one patch it is the same).
    `paper`: the data set's mean colour is subtracted.

    Args:
        model: `keras_ctxattr.ContextPredictor`, a `keras_ctxattr.AttributeHasher` with a backbone,
            whose module also gives attributes and codes, or a backbone alone.
        directory: folder to write; written beside and renamed, so it is never there by halves.
        colour: `"none"` keeps the image's colours, `"project"` removes green against magenta.
            (Colour *dropping* is random: a model trained with it is exported with either.)
        preset: preprocessing, `"released"` or `"paper"`; None takes the model's, `"released"` for
            a backbone alone.
        metadata: what the model was trained on, for `module.json`; JSON types.
        config: how it was trained: the configuration of its run, for `module.json`; JSON types.
        metrics: what it reached, for `module.json`, e.g. `{"held_out_accuracy": 0.24}`.
        license: under which licence others may use it, for `module.json`: an SPDX identifier such
            as "CC-BY-4.0", or a text.
        overwrite: whether a module that is there already may be replaced.
        unit: what attributes were learnt of: `"patch"` or `"image"`, see `AttributeModule`.
        normalize: whether the features of every place are brought to unit length, before their mean
            describes a larger image. For an `AttributeHasher` it is as the hasher has it.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument is unknown, a weight is not finite, the backbone has no
            convolutional form, or the folder holds something else.
        TypeError: if `metadata`, `config` or `metrics` cannot be written as JSON.

    Example:
        >>> import tempfile
        >>> from keras_ctxattr.backbones import compact
        >>> folder = tempfile.mkdtemp()
        >>> backbone = compact(width=8, num_features=16)
        >>> module = tf.saved_model.load(str(export_module(backbone, folder + "/module")))
        >>> module(tf.zeros([2, 120, 100, 3])).shape
        TensorShape([2, 16])
    """
    target = Path(directory).resolve()
    check_target(target, overwrite)
    check_license(license)
    backbone, processing, patch_size = _parts(model, preset)
    steps = _steps(processing, colour)
    _check_finite(backbone)
    network = fully_convolutional(backbone, patch_size=patch_size)
    if getattr(model, "normalizes", normalize):
        lengths = keras.layers.UnitNormalization(axis=-1, dtype="float32", name="unit_length")
        network = keras.Model(network.input, lengths(network.output), name=network.name)
    module, attributes = _build(model, network, steps, patch_size, unit)
    described = {
        **_describe_computation(network, processing, colour, patch_size),
        **attributes,
        "license": license,
        "config": None if config is None else json_types(dict(config)),
        "trained_on": json_types(dict(metadata or {})),
        "metrics": json_types(dict(metrics or {})),
        "versions": versions(),
    }
    # The graphs of the functions are a few MB whatever the network.
    num_bytes = 4 * network.count_params() + (4 << 20)
    with write_atomically(target, num_bytes=num_bytes, replace=overwrite) as partial:
        tf.saved_model.save(module, str(partial), signatures=module.trace())
        write_json(partial / "module.json", described)
        write_network(partial, network)
    return Path(directory)


def read_module(directory: str | Path) -> dict[str, Any]:
    """Gives the contents of a module's `module.json`.

    Args:
        directory: a folder that `export_module` wrote.

    Returns:
        Its description: `format`, `backbone`, `patch_size`, `num_features`, `input`, `processing`,
        `attributes` where it has them, `license`, `config`, `trained_on`, `metrics`, `versions`.
        The licence is None where none was named. Modules of older versions have their
        configuration in `trained_on`; it is `config` all the same, None where it is not known.

    Raises:
        ValueError: if the folder holds no module, or one of another format.
    """
    folder = Path(directory)
    if not is_module(folder):
        raise ValueError(
            "`directory` must be a module that `ctxattr export` or `export_module` wrote. "
            f"Received: {folder}"
        )
    try:
        described = json.loads((folder / "module.json").read_text(encoding="utf-8"))
        written = described["format"]
        config = described.get("trained_on", {}).get("run")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"module.json must be as `export_module` wrote it; export again. Received: {folder}"
        ) from error
    if written != FORMAT:
        raise ValueError(
            f"The module must be of format {FORMAT}, which this version of keras_ctxattr knows; "
            f"use the version it names. Received: format {written} in {folder}"
        )
    return {"license": None, "config": config, **described}


def locate_module(folder: str | Path) -> Path:
    """Gives the module that a folder is, or holds: that of `ctxattr learn`, or an index.

    Raises:
        ValueError: if there is none.
    """
    given = Path(folder)
    places = (given, given / "attributes" / "module", given / "module")
    found = next((place for place in places if is_module(place)), None)
    if found is None:
        raise ValueError(
            "A module must be a folder that `ctxattr learn`, `ctxattr export` or `export_module` "
            f"wrote. Received: {folder}"
        )
    return found


def _parts(model: Any, preset: str | None) -> tuple[keras.Model, PatchProcessing, int]:
    """Gives the backbone, how its patches are processed without draws, and their side."""
    processing = getattr(model, "processing", None)
    if isinstance(processing, PatchProcessing):
        cutter = getattr(model, "cutter", None)
        patch_size = cutter.patch_size if cutter else model.backbone.input_shape[1]
        mean = processing.mean
        renewed = PatchProcessing(preset or processing.preset, "none", 0.0, mean)
        return model.backbone, renewed, patch_size
    shape = tuple(getattr(model, "input_shape", None) or ())
    patch_size = (shape[1] if len(shape) == 4 else None) or 96
    return model, PatchProcessing(preset or "released", "none", 0.0), patch_size


def _build(
    model: Any, network: keras.Model, steps: list[Any], patch_size: int, unit: str
) -> tuple[FeatureModule, dict[str, Any]]:
    """Gives the module, and what module.json says of its attributes."""
    projection = getattr(model, "projection", None)
    if projection is None:
        return FeatureModule(network, steps, patch_size), {}
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {UNITS}. Received: unit={unit!r}")
    weights, offsets = model.folded_projection()
    module = AttributeModule(
        network, steps, patch_size, projection=weights, offsets=offsets, unit=unit
    )
    described = {
        "num_attributes": model.num_attributes,
        "code_order": "numpy.packbits",
        "unit": unit,
        "normalize": model.normalizes,
    }
    return module, {"attributes": described}


def _steps(processing: PatchProcessing, colour: str) -> list[keras.layers.Layer]:
    """Gives the functions from the 0-255 scale to the network's input; they draw nothing."""
    if colour not in COLOURS:
        raise ValueError(f"`colour` must be one of {COLOURS}. Received: colour={colour!r}")
    steps = PatchProcessing(processing.preset, colour, 0.0, processing.mean).steps
    return [step for step in steps if not isinstance(step, RandomDownsampling)]


def _check_finite(backbone: Any) -> None:
    """Refuses weights that would give no features."""
    for variable in getattr(backbone, "weights", ()):
        if not np.all(np.isfinite(np.asarray(variable, "float32"))):
            raise ValueError(
                "All weights must be finite; training has diverged, take an earlier checkpoint. "
                f"Received: NaN or infinity in {variable.path}"
            )


def check_license(license: str | None) -> None:
    """Refuses a licence that says nothing."""
    if license is not None and not (isinstance(license, str) and license.strip()):
        raise ValueError(
            "`license` must be an SPDX identifier, such as 'CC-BY-4.0', or a text; leave it out "
            f"where there is none. Received: {license!r}"
        )


def check_target(target: Path, overwrite: bool) -> None:
    """Refuses to write over anything but a module, and over that unasked."""
    is_empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if is_empty:
        return
    if not is_module(target):
        raise ValueError(
            "`directory` must be a new or empty folder, or a module to overwrite. "
            f"Received: {target}, which holds something else"
        )
    if not overwrite:
        raise ValueError(
            f"`directory` must not hold a module yet, unless overwrite=True. Received: {target}"
        )


def is_module(folder: Path) -> bool:
    """Tells whether a folder holds what `export_module` writes."""
    return all((folder / name).is_file() for name in ("module.json", "saved_model.pb"))


def _describe_computation(
    network: keras.Model, processing: PatchProcessing, colour: str, patch_size: int
) -> dict[str, Any]:
    """Gives the part of module.json that says what the module computes."""
    if processing.preset == "released":
        normalization = {"kind": "contrast", "over": "image", "mean": 0.0, "rms": 50.0}
    else:
        normalization = {"kind": "mean_subtraction", "mean": list(processing.mean)}
    return {
        "format": FORMAT,
        "backbone": network.name,
        "patch_size": patch_size,
        "num_features": network.output_shape[-1],
        "input": {
            "dtype": "float32",
            "axes": ["batch", "height", "width", "RGB"],
            "range": [0.0, 1.0],
            "min_side": patch_size,
            "encoded_pixels": PHOTO_PIXELS,
            "encoded_max_aspect": MAX_ASPECT,
            "encoded_errors": "one unreadable or too thin file is an error for the whole call",
        },
        "processing": {
            "preset": processing.preset,
            "scale": 255.0,
            "colour": colour,
            "normalization": normalization,
        },
    }
