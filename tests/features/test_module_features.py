import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from keras_ctxattr.features import ModuleFeatures, extract_features, make_descriptor
from tests.features.test_descriptors import make_patches
from tests.features.test_extract import PatchTable


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Gives a module, and one that says that it learnt from something else."""
    root = tmp_path_factory.mktemp("modules")
    first = export_module(compact(width=8, num_features=16), root / "first")
    second = Path(shutil.copytree(first, root / "second"))
    described = json.loads((second / "module.json").read_text())
    (second / "module.json").write_text(json.dumps({**described, "trained_on": {"images": 9}}))
    return first, second


def test_vectors_are_those_of_the_module(modules) -> None:
    descriptor = make_descriptor(str(modules[0]), 96)
    assert isinstance(descriptor, ModuleFeatures)
    patches = make_patches(5, 96)
    expected = tf.saved_model.load(str(modules[0]))(patches.astype("float32") / 255)
    assert descriptor.num_features == 16
    np.testing.assert_allclose(descriptor(patches), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(descriptor(patches[2:3])[0], expected[2], rtol=1e-4, atol=1e-5)
    flat = descriptor(np.full([1, 96, 96, 3], 9, np.uint8))
    assert np.isfinite(flat).all()


def test_features_of_a_module_are_extracted(modules, tmp_path) -> None:
    pixels = make_patches(10, 96)
    boxes = np.tile([0.0, 0, 96, 96], (10, 1))
    table = PatchTable(image_ids=np.arange(10), boxes=boxes, pixels=pixels)
    descriptor = make_descriptor(modules[0], 96)
    features = extract_features(table, descriptor, tmp_path / "f", batch_size=4, shard_rows=6)
    np.testing.assert_allclose(features.vectors[:], descriptor(pixels), rtol=1e-4, atol=1e-5)
    assert features.config["descriptor"] == descriptor.config
    with pytest.raises(ValueError, match=r"descriptor=.*ModuleFeatures"):
        extract_features(
            table, make_descriptor(modules[1], 96), tmp_path / "f", batch_size=4, shard_rows=6
        )


def test_normalised_vectors_are_those_of_the_module_by_their_lengths(modules) -> None:
    plain = ModuleFeatures(str(modules[0]))
    unit = ModuleFeatures(str(modules[0]), normalize=True)
    patches = make_patches(5, 96)
    vectors = plain(patches).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.05, "they would be of unit length anyway"
    np.testing.assert_allclose(unit(patches), vectors / lengths, rtol=1e-5, atol=1e-6)
    assert unit(patches).dtype == np.float32
    assert not plain.normalize and unit.num_features == plain.num_features
    # A fresh network gives zeros for a flat patch: nothing to divide by, and no NaN.
    flat = np.full([2, 96, 96, 3], 9, np.uint8)
    assert np.abs(plain(flat)).max() == 0
    np.testing.assert_array_equal(unit(flat), plain(flat))


def test_whether_vectors_are_normalised_is_part_of_the_config(modules, tmp_path) -> None:
    plain, unit = (ModuleFeatures(str(modules[0]), 96, normalize=given) for given in (False, True))
    assert plain.config == make_descriptor(modules[0], 96).config
    assert unit.config == {**plain.config, "normalize": True}
    pixels = make_patches(4, 96)
    boxes = np.tile([0.0, 0, 96, 96], (4, 1))
    table = PatchTable(image_ids=np.arange(4), boxes=boxes, pixels=pixels)
    features = extract_features(table, unit, tmp_path / "f")
    np.testing.assert_allclose(np.linalg.norm(features.vectors[:], axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"descriptor=.*ModuleFeatures"):
        extract_features(table, plain, tmp_path / "f")


def test_config_follows_the_content_and_not_the_place(modules, tmp_path) -> None:
    first, second = (make_descriptor(folder, 96) for folder in modules)
    assert first.config != second.config
    moved = tmp_path / "moved"
    modules[0].rename(moved)
    assert make_descriptor(moved, 96).config == first.config
    moved.rename(modules[0])


def test_unusable_module_is_refused_in_one_line(modules, tmp_path) -> None:
    descriptor = make_descriptor(modules[0], 96)
    for match, function, arguments in (
        ("at least the module's 96 pixels", make_descriptor, (modules[0], 64)),
        ("must be a module", ModuleFeatures, (str(tmp_path),)),
        ("kept as its own folder", descriptor.save, (tmp_path / "descriptor.npz",)),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            function(*arguments)
        assert "\n" not in str(caught.value)
    assert ModuleFeatures(str(modules[0])).size == 96
