"""Checkpoints of a Keras model that restore training bit for bit.

Why not `.keras`: it leaves out the state of random layers (a `Dropout` starts over; measured with
Keras 3.15), and needs every custom class to be deserialisable. A checkpoint here is one `.npz`: the
values of all variables of the model, its optimiser (slots, iterations, learning rate, loss scale)
and its metrics, in order, and `state.json`. It is one file, so that one rename makes it appear
whole, and ZIP's checksums tell a damaged one. No pickle.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.runs.writing import write_atomically

_NAME = re.compile(r"step-(\d{8,})\.npz")
_STATE_MEMBER = "state.json"
DAMAGED_SUFFIX = ".damaged"
# What zipfile raises depends on which byte is wrong.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint on the disk, found whole.

    Args:
        path: The file.
        step: Number of training steps behind it.
        state: What the caller stored beside the variables: numbers, strings, lists, dictionaries.
    """

    path: Path
    step: int
    state: dict[str, Any]

    def restore(self, model: Any, *, metrics: bool = False) -> None:
        """Puts the stored values into a built model of the same structure.

        A model that is not compiled gets its weights only. All values are read and compared before
        the first one is assigned.

        Args:
            model: A `keras.Model`. Variables are matched by their order; their names may differ,
                since Keras numbers them by process.
            metrics: Restore the running metrics and nothing else. `fit` resets them when it
                starts an epoch, so this is for a callback's first `on_epoch_begin`.

        Raises:
            ValueError: A variable is missing, or has another shape or dtype.
        """
        groups = metrics_of(model) if metrics else _variables_of(model)
        with zipfile.ZipFile(self.path) as archive:
            stored = json.loads(archive.read(_STATE_MEMBER))["variables"]
            values = [
                (variable, value)
                for group, variables in groups.items()
                for variable, value in _matched(self.path, archive, stored, group, variables)
            ]
        for variable, value in values:
            variable.assign(value)


def save_checkpoint(
    folder: Path, model: Any, step: int, state: Mapping[str, Any], reassurance: str
) -> Path:
    """Writes `step-00001200.npz` into `folder`, atomically; see `Run.save_checkpoint`."""
    groups = _variables_of(model) | metrics_of(model)
    num_bytes = sum(_num_bytes(variable) for group in groups.values() for variable in group)
    path = folder / f"step-{step:08d}.npz"
    with (
        write_atomically(path, num_bytes=num_bytes, reassurance=reassurance) as partial,
        zipfile.ZipFile(partial, "w") as archive,
    ):
        _write_archive(archive, groups, {"step": step, "state": dict(state)})
    return path


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, whole or not, newest first."""
    paths = [path for path in folder.glob("step-*.npz") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=checkpoint_step, reverse=True)


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"Not the name of a checkpoint, like step-00001200.npz: {path.name}")
    return int(match.group(1))


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in a file, or None where any byte of it is damaged or missing."""
    if not is_whole_archive(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_STATE_MEMBER))
        return Checkpoint(path=path, step=header["step"], state=header["state"])
    except _DAMAGE:
        return None


def is_whole_archive(path: Path) -> bool:
    """Whether a ZIP file (a checkpoint, a `.keras` file) is there with all its bytes as written."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except _DAMAGE:
        return False


def set_aside(paths: Iterable[Path]) -> None:
    """Renames damaged checkpoints: out of the way, and still there for who can mend them."""
    for path in paths:
        path.replace(path.with_name(path.name + DAMAGED_SUFFIX))


def _variables_of(model: Any) -> dict[str, list[Any]]:
    """Variables by group, each once, in an order that only depends on the model's structure."""
    if not model.built:
        raise ValueError(
            "The model has no variables yet: build it (call it on one batch) before a checkpoint "
            f"is saved or restored. Received: {model.name}"
        )
    groups = {"model": model.variables}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        groups["optimizer"] = optimizer.variables
    metrics = {id(variable) for variable in model.metrics_variables}
    return {
        group: [variable for variable in _unique(variables) if id(variable) not in metrics]
        for group, variables in groups.items()
    }


def metrics_of(model: Any) -> dict[str, list[Any]]:
    """Gives the variables of a model's metrics, as a group of `_variables_of`."""
    return {"metrics": _unique(model.metrics_variables)}


def _unique(variables: Iterable[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


def _num_bytes(variable: Any) -> int:
    return int(np.prod(variable.shape, dtype=np.int64)) * 4


def _write_archive(
    archive: zipfile.ZipFile, groups: dict[str, list[Any]], header: dict[str, Any]
) -> None:
    stored = {}
    for group, variables in groups.items():
        stored[group] = [
            _write_variable(archive, f"{group}/{index:04d}", variable)
            for index, variable in enumerate(variables)
        ]
    text = json.dumps(header | {"variables": stored}, indent=1)
    archive.writestr(_member(_STATE_MEMBER), text)


def _write_variable(archive: zipfile.ZipFile, name: str, variable: Any) -> dict[str, Any]:
    value = np.asarray(variable.numpy())
    dtype = value.dtype.name
    # bfloat16 and float8 are no numpy types of their own: .npy would store them as unnamed bytes.
    raw = value if value.dtype.kind in "biuf" and value.dtype.isbuiltin == 1 else _bits(value)
    with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array(file, raw, allow_pickle=False)
    return {"path": variable.path, "shape": list(value.shape), "dtype": dtype}


def _member(name: str) -> zipfile.ZipInfo:
    # A fixed date: equal content gives equal bytes.
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def _bits(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}").reshape(value.shape)


def _matched(
    path: Path,
    archive: zipfile.ZipFile,
    stored: dict[str, list[dict[str, Any]]],
    group: str,
    variables: list[Any],
) -> list[tuple[Any, np.ndarray]]:
    """Pairs each variable with its stored value."""
    entries = stored.get(group, [])
    if len(entries) != len(variables):
        raise ValueError(
            f"{path.name} must come from a model of the same structure: it holds {len(entries)} "
            f"{group} variables, this model has {len(variables)}."
        )
    pairs = []
    for index, (entry, variable) in enumerate(zip(entries, variables, strict=True)):
        _check_fits(path, group, entry, variable)
        with archive.open(f"{group}/{index:04d}.npy") as file:
            value = np.lib.format.read_array(file, allow_pickle=False)
        like = variable.numpy().dtype
        pairs.append((variable, value if value.dtype == like else value.view(like)))
    return pairs


def _check_fits(path: Path, group: str, entry: dict[str, Any], variable: Any) -> None:
    received = (entry["shape"], entry["dtype"])
    expected = (list(variable.shape), variable.numpy().dtype.name)
    if received != expected:
        raise ValueError(
            f"{path.name} must come from a model of the same structure: the {group} variable "
            f"{variable.path} is {expected[1]} {expected[0]}. Received: {entry['path']}, "
            f"{received[1]} {received[0]}"
        )
