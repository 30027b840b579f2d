"""Whose folder is it: what may be opened, by whom, under which configuration."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

FORMAT = 1
"""Of the run folder; read by nothing else."""

LOCK_NAME = ".lock"
_PACKAGES = ("keras_ctxattr", "tensorflow", "keras", "numpy", "opencv-python-headless")


def digest_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Tells arrays (labels, vectors, a network's weights) from others, by their bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class RunError(ValueError):
    """This folder cannot be used as asked. One line, with what to do."""


class RunWarning(UserWarning):
    """Something in a run folder is damaged, and was got round. One line, with what was done."""


def check_empty(folder: Path) -> None:
    """Refuses a folder of somebody else's files; our own first traces (hidden) are fine."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"A run needs a folder, and {folder} is a file: give another name.")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)
    foreign = [name for name in others if not name.startswith(".config.partial-")]
    if foreign:
        raise RunError(
            f"{folder} is neither empty nor a run folder (it holds {foreign[0]}"
            f"{' and more' if len(foreign) > 1 else ''}): give a new or empty folder."
        )


def lock_folder(folder: Path) -> IO[str]:
    """Locks the folder for this process; the kernel unlocks it when the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_NAME).open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error.strerror}): give a folder of your own."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise RunError(
            f"Another process (id {holder}) is training in {folder}: wait for it, stop it, or give "
            "another folder."
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind and the configuration that are stored in a run folder."""
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, config, written = stored["kind"], dict(stored["config"]), stored["format"]
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder} is no run folder (its config.json was not written by one): give another "
            "folder."
        ) from None
    if written != FORMAT:
        raise RunError(
            f"{folder} was written in format {written} of run folders, and this version of "
            f"keras_ctxattr knows {FORMAT}: use the version in its versions.json."
        )
    return kind, config


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object of a run folder.

    Args:
        path: The file.
        remedy: What to do where it is damaged, a clause for the message.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: {remedy}.")
    return value


def check_kind(folder: Path, received: str, stored: str) -> None:
    """Refuses a run of another kind."""
    if received != stored:
        raise RunError(
            f"{folder} holds a run of kind {stored!r}, not {received!r}: give another folder."
        )


def check_same(
    folder: Path, stored: dict[str, Any], received: dict[str, Any], extendable: frozenset[str]
) -> None:
    """Refuses another configuration, naming the keys, unless only a budget has grown."""
    absent = "nothing"
    differences = [
        f"{key} = {received.get(key, absent)!r} (there: {stored.get(key, absent)!r})"
        for key in sorted(stored.keys() | received.keys())
        if stored.get(key, absent) != received.get(key, absent)
        and not (key in extendable and _has_grown(stored.get(key), received.get(key)))
    ]
    if differences:
        raise RunError(
            f"{folder} holds a run of another configuration: received {', '.join(differences)}. "
            "Give the same values to go on with it, or another folder to start anew"
            + (f" ({', '.join(sorted(extendable))} may grow)." if extendable else ".")
        )


def _has_grown(stored: Any, received: Any) -> bool:
    numbers = all(isinstance(value, int | float) for value in (stored, received))
    return numbers and received > stored


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
