"""Whole-image and per-patch normalisation are compared as a plain restatement compares them."""

import dataclasses
import json

import numpy as np
import pytest

from evaluation import image_normalization
from keras_ctxattr.data.grids import grid_batches
from keras_ctxattr.data.manifest import scan_images
from tests import restatements as plain
from tests.evaluation.conftest import TINY, plain_features, unit_features, write_photo

NUM_IMAGES, PATCHES = 5, 3


def config(run_folder, out, **further):
    numbers = {"num_images": NUM_IMAGES, "patches_per_image": PATCHES}
    return image_normalization.Config(run=run_folder, out=out, **{**numbers, **further})


def restate(predictor, sources):
    """Gives features by image and by patch, one image after the other, in plain numpy."""
    grids = dataclasses.replace(TINY.grids, images_per_batch=1, patches_per_batch=PATCHES)
    manifest = scan_images(sources).usable()
    by_image, by_patch = [], []
    for batch in grid_batches(manifest, grids, num_steps=NUM_IMAGES).as_numpy_iterator():
        height, width = batch["sizes"][0]
        pixels = batch["canvases"][0, : height * width].astype("float64")
        image = pixels.reshape(height, width, 3)
        whole = plain.normalize_contrast(plain.subtract_channel_means(image))
        places = batch["corners"][:, 1:]
        by_image.append(unit_features(predictor, [plain.cut(whole, place, 96) for place in places]))
        by_patch.append(
            plain_features(predictor, [plain.cut(image, place, 96) for place in places])
        )
    return by_image, by_patch


def test_cosines_are_those_of_the_restatement(run_folder, predictor, sources, tmp_path):
    results = image_normalization.main(config(run_folder, tmp_path, images=sources))
    by_image, by_patch = restate(predictor, sources)
    same = [
        a @ b
        for left, right in zip(by_image, by_patch, strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    assert results["cosine_mean"] == pytest.approx(np.mean(same), abs=1e-4)
    assert results["cosine_median"] == pytest.approx(np.median(same), abs=1e-4)
    assert results["cosine_5_percent"] == pytest.approx(np.quantile(same, 0.05), abs=1e-4)
    # Each patch beside the patch of the same number in the image before, cyclically.
    others = [
        by_patch[image][number] @ by_patch[image - 1][number]
        for image in range(NUM_IMAGES)
        for number in range(PATCHES)
    ]
    assert results["cosine_of_different_images"] == pytest.approx(np.mean(others), abs=1e-4)
    assert results["num_patches"] == NUM_IMAGES * PATCHES
    assert results["num_images"] == NUM_IMAGES
    assert np.mean(others) < np.mean(same) < 1 - 1e-4  # else the test would tell nothing
    assert (
        json.loads((tmp_path / "results.json").read_text())["cosine_mean"] == results["cosine_mean"]
    )


def test_one_photograph_is_not_compared_with_itself(run_folder, tmp_path):
    # It was: "different" images had a cosine of exactly 1.
    write_photo(tmp_path / "photos" / "one.png", 0)
    with pytest.raises(ValueError, match=r"at least 2 that are large enough\. Received: 1"):
        image_normalization.main(
            config(run_folder, tmp_path / "out", images=[str(tmp_path / "photos")])
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # It was "not enough values to unpack", after the work.
        ({"num_images": 0}, "`--num-images` must be at least 2. Received: 0"),
        ({"num_images": 1}, "--num-images"),
        ({"patches_per_image": 0}, "--patches-per-image"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_values_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, tmp_path, **change)
