"""A second Python environment with TensorFlow 2.15."""

from pathlib import Path

import pytest

from tests.environments import find_environment

REQUIREMENTS = ("tensorflow==2.15.1", "tensorflow-addons==0.23.0", "numpy<2")


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """Gives the interpreter of an environment that has TensorFlow 2.15 and not this package."""
    return find_environment("tensorflow-2.15.1", REQUIREMENTS, ["3.11"])
