"""Photographs as one vector each: those of the module, resumed, in the images' order."""

import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import small
from keras_ctxattr.data.manifest import CollectionError, scan_images
from keras_ctxattr.export import export_module, read_module
from keras_ctxattr.features import FeatureTable, describe_photographs
from tests.clustering.concepts import write_concepts


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = write_concepts(tmp_path_factory.mktemp("photographs"), num_images=10)
    (folder / "notes.txt").write_text("no image")
    return scan_images([folder])


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    keras.utils.set_random_seed(0)
    backbone = small(width=4, num_features=8)
    return export_module(backbone, tmp_path_factory.mktemp("module") / "m", normalize=True)


def test_a_normalizing_module_has_features_of_unit_length_at_every_place(module):
    images = np.random.default_rng(0).random((2, 50, 60, 3)).astype(np.float32)
    found = tf.saved_model.load(str(module))
    places = found.feature_map(images).numpy()
    np.testing.assert_allclose(np.linalg.norm(places, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found(images), places.mean((1, 2)), atol=1e-6)


def test_a_vector_is_the_modules_own_of_the_file(manifest, module, tmp_path):
    shown = []
    table = describe_photographs(
        manifest, module, tmp_path / "t", shard_rows=4, progress=lambda *done: shown.append(done)
    )
    usable = manifest.usable()
    assert shown == [(4, 10), (8, 10), (10, 10)] and len(table) == len(usable) == 10
    np.testing.assert_array_equal(table.image_ids, usable.image_ids)
    np.testing.assert_array_equal(table.boxes, np.tile([0, 0, 32, 32], (10, 1)))
    loaded = tf.saved_model.load(str(module))
    for row in (0, 5, 9):
        encoded = tf.io.read_file(usable.paths[row])
        np.testing.assert_allclose(
            table.vectors[row], loaded.serve_bytes(encoded[None])[0], atol=1e-6
        )


def test_a_killed_call_goes_on_after_the_whole_shards(manifest, module, tmp_path):
    whole = describe_photographs(manifest, module, tmp_path / "t", shard_rows=3)
    vectors = whole.vectors[:].copy()
    shutil.rmtree(tmp_path / "t/00001")
    with pytest.raises(ValueError, match="must have all its shards"):
        FeatureTable.open(tmp_path / "t")
    shown = []
    again = describe_photographs(
        manifest, module, tmp_path / "t", shard_rows=3, progress=lambda *done: shown.append(done)
    )
    assert shown == [(10, 10)]
    np.testing.assert_array_equal(again.vectors[:], vectors)


def test_another_collection_or_module_is_refused(manifest, module, tmp_path):
    describe_photographs(manifest, module, tmp_path / "t")
    fewer = manifest.skip_where(np.arange(len(manifest)) == 3, "not wanted")
    with pytest.raises(ValueError, match="configuration it was started with"):
        describe_photographs(fewer, module, tmp_path / "t")
    with pytest.raises(ValueError, match="must be a module"):
        describe_photographs(manifest, tmp_path, tmp_path / "u")


def test_photographs_too_thin_for_a_module_are_left_out(module, tmp_path):
    """All that were larger than 100 pixels once were."""
    limit = read_module(module)["input"]["encoded_max_aspect"]
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32 * (limit + 1), 3), np.uint8)
    for name, width in (("a", 240), ("b", 32 * limit + 32), ("c", 120)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels[:, :width])
    found = scan_images([tmp_path])
    table = describe_photographs(found, module, tmp_path / "t")
    assert [found.keys[image] for image in table.image_ids] == ["a.png", "c.png"]
    with pytest.raises(CollectionError, match="all skipped"):
        describe_photographs(found.skip_where(np.arange(3) != 1, "other"), module, tmp_path / "u")
