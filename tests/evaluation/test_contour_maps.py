"""`evaluation.contour_maps`: pictures, and what padding changes."""

import json

import cv2
import numpy as np
import pytest

from evaluation import contour_maps
from keras_ctxattr.tasks.contours.learning import learn_contours
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from tests.tasks.contours.drawings import draw_discs, make_attributes
from tests.tasks.contours.test_formats import write_truth
from training.flags import parse_flags

RECIPE = ContourRecipe(
    widths=(4, 5, 6, 7),
    hidden_units=8,
    positions=6,
    crops_per_batch=2,
    optimizer_steps=10,
    dtype_policy="float32",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a data set of two photographs, and a run with attributes and one without."""
    root = tmp_path_factory.mktemp("maps")
    images = draw_discs(2)
    (root / "BSDS500/images/val").mkdir(parents=True)
    for name, pixels, boundaries in zip(
        images.names, images.pixels, images.boundaries, strict=True
    ):
        cv2.imwrite(str(root / f"BSDS500/images/val/{name}.jpg"), pixels[..., ::-1])
        write_truth(root / f"BSDS500/groundTruth/val/{name}.mat", boundaries)
    learn_contours(images, root / "kinds", RECIPE, attributes=make_attributes())
    learn_contours(images, root / "edges", RECIPE)
    return root


def run(place, name, *words):
    given = ["--run", str(place / name), "--gt", str(place / "BSDS500")]
    given += ["--out", str(place / f"out_{name}"), "--num-pixels", "40", *words]
    return contour_maps.main(parse_flags(contour_maps.Config, given))


def test_maps_of_photographs_and_of_attributes_are_drawn(place):
    run(place, "kinds")
    sheet = cv2.imread(str(place / "out_kinds/contours.png"))
    assert sheet.shape[0] > 2 * 300 and sheet.shape[1] > 4 * 300
    grid = cv2.imread(str(place / "out_kinds/attributes.png"))  # 2 + 8 tiles, four a row
    assert grid.shape[0] > 3 * 300
    assert (np.ptp(grid.astype(int), axis=-1) > 20).any()  # blue and red


def test_without_attributes_there_are_edges_alone(place):
    run(place, "edges", "--count", "1", "--first", "1")
    sheet = cv2.imread(str(place / "out_edges/contours.png"))
    assert 3 * 300 < sheet.shape[1] < 4 * 300
    assert not (place / "out_edges/attributes.png").exists()


def test_what_padding_changes_is_told(place):
    results = run(place, "kinds")
    assert results == json.loads((place / "out_kinds/results.json").read_text())
    assert results["num_pixels"] == 40
    assert 0 < results["mean_difference"] <= results["max_difference"] <= 1
    assert -1 <= results["correlation"] <= 1


def test_a_first_image_that_is_not_there_is_told(place):
    with pytest.raises(ValueError, match=r"`--first` must be under the number of images.*2"):
        run(place, "edges", "--first", "2")
