"""Features of all patches: geometry, the projection, going on after a stop."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
from sklearn.decomposition import PCA

from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.tasks.mining import dense
from keras_ctxattr.tasks.mining.dense import extract_dense
from keras_ctxattr.tasks.mining.lattices import Lattice
from tests.tasks.mining.making import coordinates_describer

LATTICE = Lattice(patch_size=64, stride=32, num_pixels=192 * 288, scales=(1.0, 0.75))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Gives photographs that are noise, of three sizes."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number, size in enumerate([(256, 384), (384, 256), (128, 192), (300, 300), (256, 384)]):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.GaussianBlur(pixels, (0, 0), 9) * 2)
    return scan_images([folder]).usable()


def extract(manifest, folder, **options):
    return extract_dense(manifest, coordinates_describer(), folder, lattice=LATTICE, **options)


def test_a_patch_has_the_box_that_was_described(tmp_path):
    """Pixels are their own coordinates: features say where a patch lies."""
    height, width = 256, 384
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width) / 2, np.arange(height)[:, None] / 2
    pixels[..., 2] = 200
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    manifest = scan_images([tmp_path]).usable()
    job = dense._Job(manifest, coordinates_describer(), LATTICE, np.array([0, 0]))
    (found,) = job.describe(np.array([0]))
    boxes = LATTICE.boxes(height, width)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(found[:, :2] * 2, centres, atol=2)
    assert len(found) == len(boxes) == 5 * 8 + 3 * 6


def test_vectors_are_whitened_principal_components(manifest, tmp_path):
    found = extract(manifest, tmp_path / "f", whitening=0.5)
    job = dense._Job(manifest, coordinates_describer(), LATTICE, found.starts)
    features = np.concatenate(list(job.describe(np.arange(len(manifest))))).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = PCA(2, whiten=True).fit_transform(features)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    two = extract(manifest, tmp_path / "two", whitening=0.5, num_dims=2)
    vectors = two.vectors[:].astype(np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=5e-3)
    assert found.num_dims == 3 and two.num_dims == 2
    assert two.kept < found.kept <= 1 + 1e-6


def test_without_whitening_vectors_are_centred_features(manifest, tmp_path):
    found = extract(manifest, tmp_path / "f", whitening=0.0)
    job = dense._Job(manifest, coordinates_describer(), LATTICE, found.starts)
    features = np.concatenate(list(job.describe(np.arange(len(manifest))))).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features -= features.mean(axis=0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    vectors = found.vectors[:].astype(np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, features @ features.T, atol=5e-3)


def test_a_killed_extraction_goes_on_to_the_same_bytes(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "_SHARD_ROWS", 100)  # photographs lie across shards
    whole = extract(manifest, tmp_path / "whole").vectors[:]
    calls = []
    real = coordinates_describer()

    def stop(image):
        calls.append(1)
        if len(calls) > 17:  # 10 for the projection
            raise KeyboardInterrupt
        return real.describe(image)

    cut = dataclasses.replace(real, describe=stop)
    with pytest.raises(KeyboardInterrupt):
        extract_dense(manifest, cut, tmp_path / "cut", lattice=LATTICE)
    told = []
    again = extract(manifest, tmp_path / "cut", progress=lambda *counts: told.append(counts))
    np.testing.assert_array_equal(again.vectors[:], whole)
    assert told[0][0] > 100 and told[-1] == (len(whole), len(whole))  # not from the start
    shutil.rmtree(tmp_path / "cut" / "00001")
    np.testing.assert_array_equal(extract(manifest, tmp_path / "cut").vectors[:], whole)


def test_photographs_are_found_by_their_rows(manifest, tmp_path):
    found = extract(manifest, tmp_path / "f")
    assert len(found.vectors_of(2)) == len(found.boxes_of(2)) == np.diff(found.starts)[2]
    np.testing.assert_allclose(found.boxes_of(2)[:, 2:].max(axis=0), [192, 128])
    np.testing.assert_allclose(np.linalg.norm(found.vectors_of(2), axis=1), 1, atol=2e-3)


def test_other_settings_in_the_same_folder_are_refused(manifest, tmp_path):
    extract(manifest, tmp_path / "f")
    with pytest.raises(ValueError, match="num_dims=2"):
        extract(manifest, tmp_path / "f", num_dims=2)


def test_what_cannot_be_is_refused(manifest, tmp_path):
    with pytest.raises(ValueError, match="`lattice` must have the patch and stride"):
        extract_dense(manifest, coordinates_describer(), tmp_path / "f", lattice=Lattice())
    with pytest.raises(ValueError, match="`num_dims` must be at least 1"):
        extract(manifest, tmp_path / "f", num_dims=0)
    nothing = dataclasses.replace(
        coordinates_describer(), describe=lambda image: np.full((5, 8, 3), np.nan)
    )
    with pytest.raises(ValueError, match=r"NaN or infinity of means for 0\.png"):
        extract_dense(
            manifest, nothing, tmp_path / "n", lattice=dataclasses.replace(LATTICE, scales=(1.0,))
        )
    few = dataclasses.replace(
        coordinates_describer(), describe=lambda image: np.full((1, 1, 3), 1.0)
    )
    with pytest.raises(ValueError, match="A describer must give a vector a place"):
        extract_dense(manifest, few, tmp_path / "m", lattice=LATTICE)
    with pytest.raises(ValueError, match="stride of a network must divide its patches"):
        coordinates_describer(64, 48)
