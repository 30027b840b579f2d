"""A module with attributes and photographs of a few kinds: what tests of indexes share."""

from pathlib import Path

import keras
import pytest

from keras_ctxattr.backbones import small
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.pipeline import learn_photo_attributes
from keras_ctxattr.pipeline.attributes import vector_recipe
from tests.clustering.concepts import write_concepts


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a folder of 72 PNG files of 32 pixels, six kinds in folders of their own."""
    return write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=72)


@pytest.fixture(scope="session")
def module(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a module with 16 attributes, learnt from these photographs."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("learnt")
    recipe = vector_recipe(num_attributes=16)
    learn_photo_attributes(
        scan_images([photographs]), small(width=8, num_features=16), folder, recipe, seed=1
    )
    return folder / "module"
