"""Every recipe in training/configs/ loads, builds its networks and takes a step."""

import dataclasses

import cv2
import numpy as np
import pytest

from keras_ctxattr.attributes import AttributeRecipe, learn_attributes
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor
from keras_ctxattr.data.grids import grid_batches
from keras_ctxattr.data.manifest import scan_images
from training.configs import load_recipe, recipe_names


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(2):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (400, 300)))
    return scan_images(folder)


def test_there_is_a_recipe_for_each_that_the_readme_names():
    names = {"small_photos", "released", "paper", "vgg", "imagenet"}
    assert names <= set(recipe_names())
    kinds = ("cifar10", "stl10", "contours", "photos", "imagenet", "paper")
    assert {f"attributes_{kind}" for kind in kinds} == set(recipe_names(AttributeRecipe))


@pytest.mark.parametrize("name", recipe_names(ContextRecipe))
def test_recipe_takes_a_step(name, manifest):
    full = load_recipe(name, ContextRecipe)
    recipe = dataclasses.replace(  # the same layers with narrow fc6 to fc8, on a few patches
        full,
        backbone_options={**full.backbone_options, "num_features": 8},
        hidden_units=8,
        dtype_policy="float32",
        grids=dataclasses.replace(
            full.grids, images_per_batch=1, patches_per_batch=6, pairs_per_batch=20
        ),
    )
    model = build_predictor(recipe, seed=0)
    model.run_eagerly = True
    before = model.head.fc9.kernel.numpy()
    batch = next(iter(grid_batches(manifest, recipe.grids, num_steps=1)))
    logs = model.train_on_batch(batch, return_dict=True)
    assert 1.0 < logs["loss"] < 6.0
    assert not np.array_equal(model.head.fc9.kernel.numpy(), before)


@pytest.mark.parametrize("name", recipe_names(AttributeRecipe))
def test_attribute_recipe_takes_its_steps(name, tmp_path):
    recipe = dataclasses.replace(
        load_recipe(name, AttributeRecipe), num_attributes=8, passes=1, min_steps=0, batch_size=16
    )
    vectors = np.random.default_rng(0).standard_normal((24, 12)).astype(np.float32)
    summary = learn_attributes(vectors, np.arange(24) // 4, tmp_path / "run", recipe)
    assert summary["steps"] == 2 and len(summary["bits"]["shares"]) == 8


def test_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"--recipe.*small_photos"):
        load_recipe("nosuch", ContextRecipe)
    with pytest.raises(ValueError, match=r"--recipe.*attributes_cifar10.*Received: small_photos"):
        load_recipe("small_photos", AttributeRecipe)
