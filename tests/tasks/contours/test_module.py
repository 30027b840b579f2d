"""The maps in graph and as a SavedModel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.tasks.contours.learning import build_learner, contour_detector
from keras_ctxattr.tasks.contours.module import (
    ContourModule,
    export_contours,
    mirror_edges,
    read_description,
)
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from keras_ctxattr.tasks.contours.transfer import PatchTransfer
from tests.tasks.contours.drawings import draw_discs, make_attributes

RECIPE = ContourRecipe(widths=(4, 5, 6, 7), hidden_units=8, dtype_policy="float32")


@pytest.fixture(scope="module")
def network():
    return build_learner(RECIPE, num_attributes=8).network


@pytest.fixture(scope="module")
def book():
    return make_attributes().book


@pytest.fixture(scope="module")
def images():
    return tf.constant(
        np.stack([draw_discs(1, seed=k).pixels[0] for k in range(2)]) / 255.0, "float32"
    )


@pytest.mark.parametrize("margin", [1, 5, 23])
def test_mirrored_edges_are_numpys(margin):
    image = np.random.default_rng(0).random((1, 6, 9, 2)).astype("float32")
    expected = np.pad(image, ((0, 0), (margin, margin), (margin, margin), (0, 0)), "reflect")
    np.testing.assert_array_equal(mirror_edges(tf.constant(image), margin), expected)


def test_maps_are_those_of_the_detector_and_of_the_transfer(network, book, images):
    maps = ContourModule(network, book, stride=2)(images)
    for number, image in enumerate(images):
        chances = contour_detector(network)(np.rint(image * 255).astype(np.uint8))
        np.testing.assert_allclose(maps["edges"][number], chances[..., 0], atol=1e-5)
        np.testing.assert_allclose(maps["attributes"][number], chances[..., 1:], atol=1e-5)
        patches = PatchTransfer(book, stride=2)(tf.constant(chances))
        np.testing.assert_allclose(maps["patches"][number], patches, atol=1e-3)


def test_a_network_without_attributes_has_edges_alone(images):
    maps = ContourModule(build_learner(RECIPE).network)(images)
    assert set(maps) == {"edges", "attributes"}
    assert maps["attributes"].shape == (*images.shape[:3], 0)


@pytest.mark.parametrize("shape", [(2, 3), (20, 9), (60, 54)])
def test_tiny_images_have_maps_too(network, book, shape):
    maps = ContourModule(network, book)(tf.zeros([1, *shape, 3]))
    assert maps["edges"].shape == maps["patches"].shape == (1, *shape)


def test_an_image_of_one_pixel_is_told(network):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 2 pixels a side"):
        ContourModule(network)(tf.zeros([1, 1, 5, 3]))


def test_the_saved_module_gives_the_same(network, book, images, tmp_path):
    folder = export_contours(network, tmp_path / "module", book=book, stride=2)
    loaded = tf.saved_model.load(str(folder))
    expected = ContourModule(network, book, stride=2)(images)
    for name, found in loaded(images).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
    served = loaded.signatures["serving_default"](images=images)
    np.testing.assert_allclose(served["patches"], expected["patches"], atol=1e-5)
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        export_contours(network, folder, book=book)
    export_contours(network, folder, overwrite=True)
    assert read_description(folder)["codes"] == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        export_contours(network, tmp_path / "notes", overwrite=True)


def test_maps_are_of_single_precision_whatever_trained_them(images):
    recipe = dataclasses.replace(RECIPE, dtype_policy="mixed_bfloat16")
    network = build_learner(recipe, num_attributes=2).network
    precise = build_learner(RECIPE, num_attributes=2).network
    precise.set_weights(network.get_weights())
    maps, expected = ContourModule(network)(images), ContourModule(precise)(images)
    for name, found in maps.items():
        np.testing.assert_allclose(found, expected[name], atol=1e-6)


def test_what_is_no_module_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"with contours\.json.*nothing"):
        read_description(tmp_path / "nothing")
    (tmp_path / "contours.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"of format 1.*format 99"):
        read_description(tmp_path)


def test_a_book_of_other_attributes_is_refused(book):
    with pytest.raises(ValueError, match=r"as many attributes as the network.*8 and 0"):
        ContourModule(build_learner(RECIPE).network, book)
