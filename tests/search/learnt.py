"""A small module with attributes that has learnt from photographs of a few kinds."""

from pathlib import Path

import keras

from keras_ctxattr.backbones import small
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.pipeline import learn_photo_attributes
from keras_ctxattr.pipeline.attributes import vector_recipe


def learn_small_module(photographs: Path, folder: Path) -> Path:
    """Learns 16 attributes of whole photographs, in seconds; gives the module's folder."""
    keras.utils.set_random_seed(0)
    learn_photo_attributes(
        scan_images([photographs]),
        small(width=8, num_features=16),
        folder,
        vector_recipe(num_attributes=16),
        seed=1,
    )
    return folder / "module"
