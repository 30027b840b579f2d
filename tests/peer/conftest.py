"""A second Python environment with TensorFlow 2.15, built once and kept."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = ("tensorflow==2.15.1", "tensorflow-addons==0.23.0", "numpy<2")
_MINUTES = 20  # to build it in: about 500 MB to fetch


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """Gives the interpreter of an environment that has TensorFlow 2.15 and not this package.

    It is kept in the folder CTXATTR_PEER_DIR, or in the user's cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("CTXATTR_PEER_DIR") or cache / "keras_ctxattr" / "peer").absolute()
    folder = root / "tensorflow-2.15.1"
    ready = folder / "requirements.txt"  # written last
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.is_file() or ready.read_text().split("\n") != [*REQUIREMENTS]:
                _build(folder)
                ready.write_text("\n".join(REQUIREMENTS))
    except OSError as error:
        pytest.skip(f"the TensorFlow 2.15 environment cannot be kept in {root}: {error}")
    return folder / "bin" / "python"


def _build(folder: Path) -> None:
    """Makes the environment, or skips the test with the reason."""
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if base is None:
        pytest.skip("TensorFlow 2.15 needs Python 3.11, and there is no python3.11")
    shutil.rmtree(folder, ignore_errors=True)
    commands = (
        [base, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
    )
    for command in commands:
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=60 * _MINUTES
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"TensorFlow 2.15 was not installed within {_MINUTES} minutes")
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"TensorFlow 2.15 cannot be installed here: {reason}")
