"""`python -m evaluation.contours`: from a folder of maps to figures."""

import json

import cv2
import numpy as np
import pytest

from evaluation import contours
from keras_ctxattr.tasks.contours.formats import write_contour_map
from tests.tasks.contours.test_benchmark import draw_task
from tests.tasks.contours.test_formats import write_truth
from training.flags import parse_flags


@pytest.fixture
def place(tmp_path):
    """Gives a folder with maps of three images and their ground truth."""
    (tmp_path / "maps").mkdir()
    for number in range(3):
        scores, lines = draw_task(number)
        write_contour_map(tmp_path / f"maps/{number}.png", scores)
        write_truth(tmp_path / f"BSDS500/groundTruth/val/{number}.mat", lines)
    return tmp_path


def parse(place, *flags):
    words = ["--pred", str(place / "maps"), "--gt", str(place / "BSDS500")]
    words += ["--out", str(place / "out"), "--processes", "1", "--thresholds", "5"]
    words += ["--max-distance", "0.03", *flags]
    return parse_flags(contours.Config, words)


def test_figures_official_files_and_a_picture(place, capsys):
    results = contours.main(parse(place, "--split", "val"))
    stored = json.loads((place / "out/results.json").read_text())
    assert stored["ods"] == results["ods"]
    assert set(stored["ois"]) == {"f", "precision", "recall", "threshold"}
    assert 0.5 < stored["ods"]["f"] <= 1
    assert [one["name"] for one in stored["images"]] == ["0", "1", "2"]
    table = np.loadtxt(place / "out/eval_bdry_img.txt")
    np.testing.assert_allclose(table[:, 4], [one["f"] for one in stored["images"]], rtol=1e-5)
    assert {path.name for path in (place / "out").iterdir()} == {
        "results.json",
        "curve.png",
        "eval_bdry.txt",
        "eval_bdry_img.txt",
        "eval_bdry_thr.txt",
    }
    contours.report(results)
    assert "ods" in capsys.readouterr().out


def test_suppression_is_a_step_of_its_own(place):
    plain = contours.main(parse(place))
    crests = contours.main(parse(place, "--suppress"))
    assert plain["ods"]["f"] != crests["ods"]["f"]
    assert "left to who made the maps" in plain["protocol"]
    assert "suppression here" in crests["protocol"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--matching", "greedy"), "`--matching` must be one of"),
        (("--thresholds", "0"), "`--thresholds` must be at least 1"),
        (("--processes", "0"), "`--processes` must be"),
        (("--map", "patches"), "`--map` belongs to `--run` and `--module`. Received: --pred"),
        (("--stride", "2"), "`--stride` belongs to `--run`. Received: --pred"),
        (("--canny-sigma", "2"), "`--canny-sigma` belongs to `--canny`. Received: --pred"),
        (("--images", "X"), "`--images` belongs to `--run` and `--module` and `--canny`"),
    ],
)
def test_impossible_flags_are_one_line(place, capsys, flags, told):
    with pytest.raises(SystemExit):
        parse(place, *flags)
    assert told in capsys.readouterr().err


def test_nothing_is_written_where_the_ground_truth_is_damaged(place):
    (place / "BSDS500/groundTruth/val/1.mat").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"1\.mat"):
        contours.main(parse(place))
    assert not (place / "out").exists()


def test_canny_detects_first_and_leaves_its_maps(place):
    (place / "BSDS500/images/val").mkdir(parents=True)
    for number in range(3):
        scores, _ = draw_task(number)
        grey = np.repeat((scores * 255).astype("uint8")[..., None], 3, -1)
        cv2.imwrite(str(place / f"BSDS500/images/val/{number}.jpg"), grey)
    words = ["--gt", str(place / "BSDS500"), "--canny", "--out", str(place / "out")]
    words += ["--processes", "1", "--thresholds", "3", "--first", "1"]
    results = contours.main(parse_flags(contours.Config, words))
    assert [one["name"] for one in results["images"]] == ["1", "2"]
    assert "suppression here" in results["protocol"]
    assert sorted(path.name for path in (place / "out/maps").iterdir()) == ["1.png", "2.png"]
    again = [*words[:2], "--pred", str(place / "out/maps"), *words[3:]]
    again[again.index("--out") + 1] = str(place / "again")
    assert contours.main(parse_flags(contours.Config, again))["ods"] == results["ods"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--run", "R", "--suppress"), "`--suppress` belongs to `--pred`. Received: --run"),
        (("--run", "R", "--stride", "2"), "`--stride` belongs to `--map patches`"),
        (("--module", "M", "--reach", "3"), "`--reach` belongs to `--run`. Received: --module"),
        (("--run", "R", "--map", "both"), "`--map` must be one of edges, patches"),
    ],
)
def test_flags_of_other_ways_are_refused(capsys, flags, told):
    with pytest.raises(SystemExit):
        parse_flags(contours.Config, ["--gt", "G", "--out", "O", *flags])
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_module_is_told(place):
    words = ["--module", str(place), "--gt", str(place / "BSDS500"), "--out", str(place / "out")]
    with pytest.raises(ValueError, match=r"with contours\.json"):
        contours.main(parse_flags(contours.Config, words))
