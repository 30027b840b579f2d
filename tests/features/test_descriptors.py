import json
import subprocess
import sys

import numpy as np
import pytest

from keras_ctxattr.features.descriptors import (
    DAISY,
    DESCRIPTORS,
    HOG,
    ColourHistogram,
    FisherVectors,
    describe_batch,
    load_descriptor,
    make_descriptor,
)
from tests.features import restatements


def make_patches(count, size, seed=0):
    """Gives patches with structure at several scales, uint8 [count, size, size, 3]."""
    generator = np.random.default_rng(seed)
    patches = np.zeros([count, size, size, 3])
    for cell in (2, 5, 11):
        blocks = generator.normal(128, 60, [count, size // cell + 1, size // cell + 1, 3])
        patches += np.kron(blocks, np.ones([1, cell, cell, 1]))[:, :size, :size] / 3
    return patches.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fisher():
    settings = {"num_modes": 4, "num_components": 8, "cells": (4, 6)}
    return FisherVectors(32, **settings).fit(make_patches(40, 32, seed=1), seed=0)


@pytest.fixture(scope="module", params=["hog", "daisy", "fisher"])
def descriptor(request, fisher):
    return fisher if request.param == "fisher" else DESCRIPTORS[request.param](size=32)


# --- Against the libraries ---


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (32, {"cell": 8}),
        (96, {"cell": 16}),
        (96, {"cell": 12}),
        (33, {"cell": 5, "orientations": 12, "block": 3}),
        (17, {"cell": 4, "orientations": 8, "block": 1}),
    ],
)
def test_hog_is_that_of_scikit_image(size, settings) -> None:
    patches = make_patches(6, size)
    patches[0] = np.random.default_rng(2).integers(0, 256, patches[0].shape)
    patches[1] = np.arange(256, dtype=np.uint8)[:size, None] // 8 * 8  # ties, exact angles
    expected = [restatements.hog_of(patch, **settings) for patch in patches]
    np.testing.assert_allclose(HOG(size, **settings)(patches), expected, atol=1e-6)


def test_default_cells_follow_the_size() -> None:
    assert HOG(32) == HOG(32, cell=8)
    assert HOG(96) == HOG(96, cell=16)
    assert HOG(32)(make_patches(1, 32)).shape == (1, 324)


@pytest.mark.parametrize(
    ("daisy", "radius", "points"),
    [
        (DAISY(45), 22, [(22, 22)]),
        (DAISY(32), 15, [(15, 15)]),
        (DAISY(45, radius=15), 15, [(22, 22)]),
        (DAISY(45, points=2), 15, [(15, 15), (15, 29), (29, 15), (29, 29)]),
        (DAISY(31, radius=5, points=3), 5, [(y, x) for y in (5, 15, 25) for x in (5, 15, 25)]),
    ],
    ids=str,
)
def test_daisy_is_that_of_scikit_image(daisy, radius, points) -> None:
    patches = make_patches(5, daisy.size)
    patches[0] = 255 * (patches[0] > 128).all(-1, keepdims=True)  # like a contour
    expected = [restatements.daisy_of(patch, radius, points) for patch in patches]
    np.testing.assert_allclose(daisy(patches), expected, atol=2e-6)


def test_daisy_with_other_rings_is_that_of_scikit_image() -> None:
    settings = {"rings": 2, "histograms": 6, "orientations": 4}
    patches = make_patches(4, 32)
    expected = [restatements.daisy_of(patch, 15, [(15, 15)], **settings) for patch in patches]
    np.testing.assert_allclose(DAISY(32, **settings)(patches), expected, atol=2e-6)


def test_fisher_vectors_are_those_of_scikit_image(fisher, tmp_path) -> None:
    fisher.save(tmp_path / "fisher.npz")
    stored = np.load(tmp_path / "fisher.npz", allow_pickle=False)
    learnt = {
        kind: {
            name.removeprefix(f"{kind}_"): stored[name]
            for name in stored.files
            if name.startswith(f"{kind}_")
        }
        for kind in ("gradients", "colours")
    }
    patches = make_patches(3, 32, seed=5)
    windows = list(restatements.windows_of(32, (4, 6), 2))
    for patch, vector in zip(patches, fisher(patches), strict=True):
        local = {
            "gradients": restatements.sift_of(patch, windows),
            "colours": restatements.colours_of(patch, windows),
        }
        halves = [restatements.fisher_of(local[kind], learnt[kind]) for kind in learnt]
        np.testing.assert_allclose(vector, np.concatenate(halves) / 2**0.5, atol=1e-4)


# --- Laws ---


def test_batch_is_single(descriptor) -> None:
    patches = make_patches(37, 32)
    together = descriptor(patches)
    assert together.dtype == np.float32
    assert together.shape == (37, descriptor.num_features)
    for row in (0, 17, 36):
        np.testing.assert_array_equal(descriptor(patches[row : row + 1])[0], together[row])
    order = np.random.default_rng(0).permutation(37)
    np.testing.assert_array_equal(descriptor(patches[order]), together[order])
    assert descriptor(patches[:0]).shape == (0, descriptor.num_features)


def test_flat_patches_get_finite_vectors(descriptor) -> None:
    flat = np.broadcast_to(np.array([0, 7, 255], np.uint8)[:, None, None, None], (3, 32, 32, 3))
    vectors = describe_batch(descriptor, flat)
    assert np.isfinite(vectors).all()
    if isinstance(descriptor, HOG):
        assert not vectors.any()


def test_patches_stay_as_they_are(descriptor) -> None:
    patches = make_patches(3, 32)
    before = patches.copy()
    descriptor(patches)
    np.testing.assert_array_equal(patches, before)


def test_more_light_changes_no_gradient() -> None:
    patches = make_patches(5, 32) // 2
    for descriptor in (HOG(32), DAISY(32)):
        brighter = descriptor(patches + np.uint8(100))
        np.testing.assert_allclose(brighter, descriptor(patches), atol=1e-4)


def test_strongest_channel_counts_in_hog() -> None:
    patches = make_patches(4, 32)
    patches[..., 1:] = 90  # no gradients
    grey = np.repeat(patches[..., :1], 3, -1)
    np.testing.assert_array_equal(HOG(32)(patches), HOG(32)(grey))


def test_edge_votes_for_its_own_orientation() -> None:
    edge = np.zeros([1, 32, 32, 3], np.uint8)
    edge[:, :, 16:] = 255  # gradient along x: 0 degrees, bin 0
    histograms = HOG(32)(edge).reshape(-1, 9)
    assert histograms[:, 0].max() > 0.1
    assert not histograms[:, 1:].any()
    upright = np.swapaxes(edge, 1, 2)  # gradient along y: 90 degrees, bin 4 of 9
    histograms = HOG(32)(upright).reshape(-1, 9)
    assert histograms[:, 4].max() > 0.1
    assert not np.delete(histograms, 4, 1).any()


def test_colour_moves_fisher_vectors_and_length_is_1(fisher) -> None:
    patches = make_patches(2, 32)
    vectors = fisher(np.concatenate([patches, patches[..., ::-1]]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    half = fisher.num_features // 2
    assert np.abs(vectors[:2, half:] - vectors[2:, half:]).max() > 0.01


# --- Contracts ---


def test_config_names_the_class_and_is_json(descriptor) -> None:
    config = descriptor.config
    assert config["class"] == type(descriptor).__name__
    assert json.loads(json.dumps(config)) == config


def test_saved_descriptor_gives_the_same_vectors(descriptor, tmp_path) -> None:
    path = tmp_path / "descriptor.npz"
    descriptor.save(path)
    patches = make_patches(4, 32, seed=9)
    for load in (type(descriptor).load, load_descriptor):
        loaded = load(path)
        assert type(loaded) is type(descriptor)
        assert loaded.config == descriptor.config
        np.testing.assert_array_equal(loaded(patches), descriptor(patches))


def test_fit_depends_on_the_patches_and_the_seed_alone(fisher) -> None:
    def fit(patches_seed, seed):
        settings = {"num_modes": 4, "num_components": 8, "cells": (4, 6)}
        return FisherVectors(32, **settings).fit(make_patches(40, 32, seed=patches_seed), seed)

    assert fit(1, 0).config == fisher.config
    assert fit(1, 1).config != fisher.config
    assert fit(2, 0).config != fisher.config


def test_nothing_to_learn_is_fine() -> None:
    assert HOG(32).fit(make_patches(2, 32), seed=3) == HOG(32)


def test_other_processes_need_no_tensorflow() -> None:
    program = (
        "import sys, keras_ctxattr.features.descriptors, keras_ctxattr.features as features\n"
        "features.HOG, features.make_descriptor('daisy', 45), features.describe_batch\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"


# --- Bad input ---


def refused(match, function, *arguments, **options):
    with pytest.raises(ValueError, match=match) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_impossible_settings_are_refused() -> None:
    refused("must hold a block", HOG, 15)
    refused("must hold a block", HOG, 32, cell=0)
    refused("must hold a block", HOG, 32, cell=-4)
    refused("must hold a block", HOG, 32, orientations=0)
    refused("must hold `radius` pixels", DAISY, 45, radius=23)
    refused("must hold `radius` pixels", DAISY, 45, radius=22, points=2)
    refused("must hold `radius` pixels", DAISY, 45, points=0)
    refused("must hold `radius` pixels", DAISY, 2)
    refused("no window fits", FisherVectors, 15)
    refused("num_components` 1...96", FisherVectors, 32, num_components=97)
    refused("num_components` 1...96", FisherVectors, 32, step=0)
    refused("num_components` 1...96", FisherVectors, 32, cells=())


def test_fisher_vectors_want_to_be_fitted_and_with_enough() -> None:
    fisher = FisherVectors(32)
    refused("must be fitted before", fisher, make_patches(1, 32))
    refused("Received: 1 for", fisher.fit, np.zeros([5, 32, 32, 3], np.uint8))
    refused("twice as many different", fisher.fit, make_patches(0, 32))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros([2, 31, 31, 3], np.uint8), np.zeros([2, 32, 32, 3]), np.zeros([32, 32, 3], np.uint8)],
    ids=["size", "dtype", "axes"],
)
def test_pixels_of_another_kind_are_refused(pixels) -> None:
    refused(r"Patches must be uint8 \[b, 32, 32, 3\]", describe_batch, HOG(32), pixels)


def test_file_that_holds_no_descriptor_is_refused(tmp_path) -> None:
    path = tmp_path / "descriptor.npz"
    refused("that `Descriptor.save` wrote", load_descriptor, path)
    path.write_bytes(b"PK nothing")
    refused("that `Descriptor.save` wrote", load_descriptor, path)
    np.savez(path, vectors=np.zeros(3))
    refused("that `Descriptor.save` wrote", load_descriptor, path)
    HOG(32).save(path)
    refused("of class DAISY.* with HOG", DAISY.load, path)
    np.savez(path, config=json.dumps({"class": "Eval"}))
    refused("one of HOG, DAISY, FisherVectors, ColourHistogram.* with Eval", load_descriptor, path)


def test_unknown_name_lists_the_known_ones(tmp_path) -> None:
    for name in DESCRIPTORS:
        assert make_descriptor(name, 32).size == 32
    for wrong in ("sift", tmp_path, ""):
        refused(
            "one of hog, daisy, fisher, colour, or the folder of a module",
            make_descriptor,
            wrong,
            32,
        )


def test_colours_are_counted_by_hand():
    """Two thirds red, a third of a blue that is just under a bin's border."""
    pixels = np.zeros((2, 3, 3, 3), np.uint8)
    pixels[0, :2] = (255, 0, 0)
    pixels[0, 2] = (0, 0, 127)
    pixels[1] = (128, 128, 128)
    vectors = ColourHistogram(3, bins=2)(pixels)
    np.testing.assert_allclose(vectors[0], np.sqrt([1 / 3, 0, 0, 0, 2 / 3, 0, 0, 0]), atol=1e-6)
    np.testing.assert_array_equal(vectors[1], [0, 0, 0, 0, 0, 0, 0, 1])


def test_colours_of_a_shuffled_patch_are_the_same_and_as_numpy_counts_them():
    pixels = make_patches(3, 32)
    vectors = ColourHistogram(32)(pixels)
    shuffled = pixels.reshape(3, -1, 3)[:, np.random.default_rng(0).permutation(32 * 32)]
    np.testing.assert_array_equal(ColourHistogram(32)(shuffled.reshape(pixels.shape)), vectors)
    for patch, vector in zip(pixels, vectors, strict=True):
        counts, _ = np.histogramdd(patch.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
        np.testing.assert_allclose(vector**2, counts.ravel() / 32**2, atol=1e-6)
    refused("`bins` from 2 to 16", ColourHistogram, 32, bins=17)
