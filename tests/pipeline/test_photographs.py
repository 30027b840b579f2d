"""Attributes of whole photographs: one path of codes from files to bits, resumed, refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes import unpack_bits
from keras_ctxattr.backbones import small
from keras_ctxattr.clustering import ClusterTable
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export import read_module
from keras_ctxattr.pipeline import learn_photo_attributes
from keras_ctxattr.pipeline.attributes import learn_vector_attributes, vector_recipe
from keras_ctxattr.pipeline.photographs import DescribingProgress
from keras_ctxattr.runs import Run, RunError
from tests.clustering.concepts import NUM_CONCEPTS, write_concepts


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return scan_images([write_concepts(tmp_path_factory.mktemp("photographs"), num_images=72)])


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return small(width=8, num_features=16)


@pytest.fixture(scope="module")
def finished(manifest, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = vector_recipe(num_attributes=8)
    return folder, learn_photo_attributes(
        manifest, backbone, folder, recipe, source={"images": "concepts"}, seed=1
    )


def test_a_file_has_the_code_that_was_learnt_of_it(finished, manifest):
    folder, summary = finished
    codes = np.load(folder / "codes.npy")
    assert codes.shape == (72, 1) and summary["num_photographs"] == 72
    assert (folder / "keys.txt").read_text().split() == list(manifest.usable().keys)
    module = tf.saved_model.load(str(folder / "module"))
    files = tf.stack([tf.io.read_file(path) for path in manifest.usable().paths[:8]])
    scores = module.attributes(tf.zeros([1, 40, 40, 3]))
    assert scores.shape == [1, 8]
    np.testing.assert_array_equal(module.encode_bytes(files), codes[:8])
    described = read_module(folder / "module")
    assert described["attributes"]["unit"] == "image" and described["attributes"]["normalize"]
    assert described["metrics"]["bit_entropy"] == summary["bits"]["entropy"]
    for name in ("module", "features"):
        described = read_module(folder / name)
        assert described["trained_on"] == {"images": "concepts", "num_photographs": 72}
        assert described["config"] == Run.read(folder).config


def test_photographs_of_a_concept_share_their_attributes(finished):
    signs = 2.0 * unpack_bits(np.load(finished[0] / "codes.npy")) - 1
    agreement = signs @ signs.T / 8
    # Files are in the order of their concepts' folders.
    truth = np.repeat(np.arange(NUM_CONCEPTS), 72 // NUM_CONCEPTS)
    same = truth[:, None] == truth
    assert agreement[same].mean() > agreement[~same].mean() + 0.3


def test_same_call_again_does_nothing_and_another_network_is_refused(finished, manifest, backbone):
    folder, summary = finished
    recipe = vector_recipe(num_attributes=8)
    assert learn_photo_attributes(manifest, backbone, folder, recipe, seed=1) == summary
    other = small(width=8, num_features=16)
    with pytest.raises(RunError, match="network"):
        learn_photo_attributes(manifest, other, folder, recipe, seed=1)


def test_kmeans_stands_in_where_clusters_are_not_found_again(tmp_path, capsys):
    noise = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    hasher = learn_vector_attributes(noise, tmp_path / "run", vector_recipe(num_attributes=8))
    assert hasher.num_attributes == 8
    assert "10 of k-means stand in" in capsys.readouterr().err
    assert ClusterTable.open(tmp_path / "run/clusters").num_clusters == 10


def test_other_vectors_in_the_same_folder_are_refused(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((48, 16)).astype(np.float32)
    recipe = vector_recipe(num_attributes=8)
    learn_vector_attributes(vectors, tmp_path / "run", recipe)
    with pytest.raises(RunError, match="other vectors"):
        learn_vector_attributes(vectors + 1, tmp_path / "run", recipe)


def test_two_groups_do_not_keep_clusters_from_being_found(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((48, 16)).astype(np.float32)
    groups = np.arange(48) % 2
    hasher = learn_vector_attributes(vectors, tmp_path / "run", vector_recipe(8), groups=groups)
    assert ClusterTable.open(tmp_path / "run/clusters").num_clusters >= 2
    assert np.isfinite(hasher(vectors).numpy()).all()


def test_progress_says_the_rate_and_the_time_that_is_left(monkeypatch):
    lines: list[str] = []
    clock = iter([0.0, 100.0, 104.0, 120.0, 125.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = DescribingProgress(lines.append)
    for done in (64, 72, 104, 200):
        progress(done, 200)
    assert lines == [
        "  64 of 200 photographs described",
        "  104 of 200 photographs described · 2.0 photographs/s · 0:48 left",
        "  200 of 200 photographs described",
    ]
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    DescribingProgress(lines.append, done="searched")(3, 3)
    assert lines[-1] == "  3 of 3 photographs searched"


def test_too_few_are_refused(tmp_path):
    with pytest.raises(ValueError, match="32 samples or more"):
        learn_vector_attributes(np.eye(31), tmp_path / "run")
    assert not (tmp_path / "run").exists()
