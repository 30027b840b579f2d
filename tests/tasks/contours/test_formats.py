"""Contour maps as pictures, maps beside ground truths, and the official text files."""

import cv2
import numpy as np
import pytest
import scipy.io

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.tasks.contours.formats import (
    read_contour_map,
    write_contour_map,
    write_official_results,
)
from keras_ctxattr.tasks.contours.tasks import read_tasks


def write_truth(path, boundaries):
    cells = np.empty((1, len(boundaries)), object)
    for number, one in enumerate(boundaries):
        cells[0, number] = {"Boundaries": one.astype("uint8")}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells})


def test_sixteen_bits_come_back(tmp_path):
    scores = np.random.default_rng(0).random((13, 17))
    write_contour_map(tmp_path / "map.png", scores)
    assert np.abs(read_contour_map(tmp_path / "map.png") - scores).max() <= 0.5 / 65535 + 1e-12


def test_eight_bits_and_grey_colours_are_read(tmp_path):
    pixels = np.arange(0, 250, 10, np.uint8).reshape(5, 5)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels)
    cv2.imwrite(str(tmp_path / "colours.png"), np.repeat(pixels[..., None], 3, -1))
    for name in ("grey.png", "colours.png"):
        np.testing.assert_array_equal(read_contour_map(tmp_path / name), pixels / 255)


def test_what_is_no_map_is_told(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    cv2.imwrite(str(tmp_path / "red.png"), np.array([[[0, 0, 200]]], np.uint8))
    for name in ("text.png", "red.png", "nowhere.png"):
        with pytest.raises(ValueError, match=f"grey PNG of 8 or 16 bits.*{name}"):
            read_contour_map(tmp_path / name)
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        write_contour_map(tmp_path / "map.png", np.array([[2.0]]))
    assert not (tmp_path / "map.png").exists()


def test_maps_are_read_beside_their_ground_truth(tmp_path):
    lines = np.zeros((3, 8, 9), bool)
    lines[:, 4] = True
    for name in ("12", "3"):
        write_truth(tmp_path / f"BSDS500/groundTruth/test/{name}.mat", lines)
        write_contour_map(tmp_path / f"{name}.png", lines[0] * int(name) / 20)
    places = ("BSDS500", "BSDS500/groundTruth", "BSDS500/groundTruth/test")
    for place, split in zip(places, ("test", None, None), strict=True):
        tasks = read_tasks(tmp_path, tmp_path / place, split=split)
        assert [scores.max() for scores, _ in tasks] == pytest.approx([0.15, 0.6], abs=1e-4)
        np.testing.assert_array_equal(tasks[0][1], lines)


def test_a_missing_map_an_empty_truth_or_another_size_is_named(tmp_path):
    for name in ("12", "3"):
        write_truth(tmp_path / f"truth/{name}.mat", np.ones((1, 8, 9), bool))
    write_contour_map(tmp_path / "3.png", np.zeros((8, 9)))
    with pytest.raises(CollectionError, match=r"without 12.png \(1 of 2 missing\)"):
        read_tasks(tmp_path, tmp_path / "truth")
    write_truth(tmp_path / "blank/3.mat", np.zeros((2, 8, 9), bool))
    with pytest.raises(CollectionError, match="3: 2 empty maps"):
        read_tasks(tmp_path, tmp_path / "blank")
    write_contour_map(tmp_path / "12.png", np.zeros((9, 8)))
    with pytest.raises(CollectionError, match=r"8x9 \(height x width\) for 12.*12.png of 9x8"):
        read_tasks(tmp_path, tmp_path / "truth")


def test_the_official_text_has_its_columns(tmp_path):
    point = {"threshold": 1 / 6, "recall": 0.60236, "precision": 0.848723, "f": 0.704628}
    curve = {"thresholds": [1 / 6], "recall": [1.0], "precision": [0.5], "f": [2 / 3]}
    results = {"ods": point, "ois": point, "ap": 0.307627, "curve": curve, "images": [point]}
    write_official_results(tmp_path, results)
    assert (tmp_path / "eval_bdry_img.txt").read_text() == (
        "         1   0.166667    0.60236   0.848723   0.704628\n"
    )
    assert len((tmp_path / "eval_bdry.txt").read_text().split()) == 8
    assert (tmp_path / "eval_bdry_thr.txt").read_text() == (
        "  0.166667          1        0.5   0.666667\n"
    )
