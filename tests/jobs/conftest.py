"""A module with attributes and a collection with files that cannot be used."""

import keras
import pytest

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import small
from keras_ctxattr.export import export_module
from tests.clustering.concepts import write_concepts


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """Gives a module with 16 attributes and random weights."""
    keras.utils.set_random_seed(0)
    hasher = AttributeHasher(small(width=8, num_features=16), num_attributes=16)
    return export_module(hasher, tmp_path_factory.mktemp("modules") / "module", unit="image")


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """Gives a folder of 36 images, two files that are damaged and one that is no image."""
    folder = write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=36)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    (folder / "concept3/empty.png").touch()
    (folder / "notes.txt").write_text("no image at all")
    return folder
