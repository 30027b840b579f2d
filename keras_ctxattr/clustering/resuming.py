"""Stages of clustering on the disk: one that was interrupted goes on after the last of them."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.clustering.members import Members, flatten
from keras_ctxattr.clustering.stages import Firing
from keras_ctxattr.runs import RunError, digest_arrays, write_atomically, write_json

_IDENTITY = "clustering.json"
_NUM_COMPARED = 256


class StageFolder:
    """Keeps what the stages of a clustering gave.

    Args:
        folder: new, empty, or with stages of the same clustering; None keeps nothing.
        identity: what the stages depend on, JSON types.

    Raises:
        RunError: if the folder holds stages of another clustering.
    """

    def __init__(self, folder: str | Path | None, identity: Mapping[str, Any]) -> None:
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        stored = self._folder / _IDENTITY
        if not stored.exists():
            write_json(stored, dict(identity))
        elif _read_json(stored) != identity:
            raise RunError(
                "A clustering goes on with the samples and parameters that it began with; name "
                f"another folder, or remove this one. Received: {folder}"
            )

    def recall(self, name: str, compute: Callable[[], Firing]) -> Firing:
        """Gives what a stage gave before, or computes and keeps it.

        Args:
            name: of the stage, for a file.
            compute: the stage.
        """
        if self._folder is None:
            return compute()
        stored = self._folder / f"{name}.npz"
        if not stored.exists():
            _write(stored, compute())
        return _read(stored)

    def recall_members(self, name: str, compute: Callable[[], Members]) -> Members:
        """The same for a stage that gives members alone."""

        def wrap() -> Firing:
            members = compute()
            count = len(members)
            return Firing(
                kept=np.arange(count), members=members, scores=np.zeros(count, np.float32)
            )

        return self.recall(name, wrap).members


def identify(parameters: Mapping[str, Any], tables: Mapping[str, Any], groups: Any) -> Any:
    """Gives what the stages of a clustering depend on, JSON types.

    Args:
        parameters: of the estimator. The devices are left out: they change no result.
        tables: name -> float `[rows, num_features]`; told apart by shape and 256 rows.
        groups: int `[n]`.
    """
    told = {name: repr(value) for name, value in parameters.items() if name != "devices"}
    found: dict[str, Any] = {"parameters": told, "groups": digest_arrays([np.asarray(groups)])}
    for name, table in tables.items():
        places = np.unique(np.linspace(0, len(table) - 1, _NUM_COMPARED).astype(np.int64))
        rows = np.asarray(table[places], np.float32)
        found[name] = {"shape": list(table.shape), "digest": digest_arrays([rows])}
    return found


def _write(path: Path, firing: Firing) -> None:
    rows, _ = flatten(firing.members)
    sizes = np.array([len(one) for one in firing.members], np.int64)
    arrays: dict[str, Any] = {
        "kept": firing.kept,
        "scores": firing.scores,
        "rows": rows,
        "sizes": sizes,
    }
    num_bytes = sum(values.nbytes for values in arrays.values())
    reassurance = "the stages before it are kept, and the same call goes on after them"
    with write_atomically(path, num_bytes=num_bytes, reassurance=reassurance) as partial:
        np.savez(partial, **arrays)


def _read(path: Path) -> Firing:
    try:
        with np.load(path, allow_pickle=False) as stored:
            members = np.split(stored["rows"], np.cumsum(stored["sizes"])[:-1])
            return Firing(
                kept=stored["kept"],
                members=members if len(stored["sizes"]) else [],
                scores=stored["scores"],
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            "A stage of a clustering must be a whole file; delete it, and the same call computes "
            f"it again. Received: {path} ({error})"
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            "The folder of a clustering must tell what it is of; remove it to begin anew. "
            f"Received: {path} ({error})"
        ) from error
