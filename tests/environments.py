"""Second Python environments, built once and kept, for what cannot be installed beside us."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_MINUTES = 20  # to build one in: some hundred MB to fetch


def find_environment(name: str, requirements: Sequence[str], pythons: Sequence[str]) -> Path:
    """Gives the interpreter of an environment, which is built if it is not there.

    It is kept in the folder CTXATTR_PEER_DIR, or in the user's cache. Where it cannot be built, the
    test is skipped with the reason.

    Args:
        name: of its folder.
        requirements: what is installed.
        pythons: versions that will do, e.g. "3.11"; the running one if it is among them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("CTXATTR_PEER_DIR") or cache / "keras_ctxattr" / "peer").absolute()
    folder = root / name
    ready = folder / "requirements.txt"  # written last
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.is_file() or ready.read_text().split("\n") != [*requirements]:
                _build(folder, requirements, pythons)
                ready.write_text("\n".join(requirements))
    except OSError as error:
        pytest.skip(f"the environment {name} cannot be kept in {root}: {error}")
    return folder / "bin" / "python"


def _build(folder: Path, requirements: Sequence[str], pythons: Sequence[str]) -> None:
    """Makes the environment, or skips the test with the reason."""
    wanted = " and ".join(requirements)
    base = _find_python(pythons)
    if base is None:
        pytest.skip(f"{wanted} need Python {' or '.join(pythons)}, and there is none")
    shutil.rmtree(folder, ignore_errors=True)
    commands = (
        [base, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements],
    )
    for command in commands:
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=60 * _MINUTES
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{wanted} were not installed within {_MINUTES} minutes")
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"{wanted} cannot be installed here: {reason}")


def _find_python(versions: Sequence[str]) -> str | None:
    if f"{sys.version_info.major}.{sys.version_info.minor}" in versions:
        return sys.executable
    found = (shutil.which(f"python{version}") for version in versions)
    return next((path for path in found if path), None)
