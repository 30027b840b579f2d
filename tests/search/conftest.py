"""A module with attributes and photographs of a few kinds: what tests of indexes share."""

from pathlib import Path

import pytest

from tests.clustering.concepts import write_concepts
from tests.search.learnt import learn_small_module


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a folder of 72 PNG files of 32 pixels, six kinds in folders of their own."""
    return write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=72)


@pytest.fixture(scope="session")
def module(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a module with 16 attributes, learnt from these photographs."""
    return learn_small_module(photographs, tmp_path_factory.mktemp("learnt"))
