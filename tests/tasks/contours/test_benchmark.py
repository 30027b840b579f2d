"""The benchmark: official numbers, laws, several processes."""

import ast
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_ctxattr.tasks.contours.benchmark import count_images, count_pixels, score_contours
from keras_ctxattr.tasks.contours.formats import write_contour_map, write_official_results
from keras_ctxattr.tasks.contours.tasks import read_tasks
from tests.tasks.contours.test_formats import write_truth


def draw_task(seed, shape=(40, 50)):
    """A blurred map of some lines, and three annotators who drew them shifted by a pixel."""
    generator = np.random.default_rng(seed)
    lines = np.zeros((3, *shape), bool)
    for row in generator.integers(5, shape[0] - 5, 3):
        for annotator in lines:
            annotator[row + generator.integers(-1, 2), 3:-3] = True
    drawn = cv2.GaussianBlur(lines.mean(0), (0, 0), 1.0) + generator.random(shape) * 0.1
    return drawn / drawn.max(), lines


@pytest.mark.data
def test_official_numbers_of_the_benchmarks_own_case(data_folder, tmp_path):
    """Within 5e-4, about one pixel of an image's count."""
    with tarfile.open(data_folder / "bsds500_bench.tar") as archive:
        archive.extractall(tmp_path, filter="data")
        expected = {
            member.name.rpartition("/")[2]: np.loadtxt(
                io.BytesIO(archive.extractfile(member).read())
            )
            for member in archive
            if "test_2/eval" in member.name
        }
    tasks = read_tasks(tmp_path / "data/png", tmp_path / "data/groundTruth")
    write_official_results(tmp_path, score_contours(tasks, num_processes=1, thresholds=5))
    for name, values in expected.items():
        np.testing.assert_allclose(np.loadtxt(tmp_path / name), values, atol=5e-4, err_msg=name)
    # Without the random part: never fewer pairs, and all within three pixels of an image.
    results = score_contours(tasks, num_processes=1, thresholds=5, matching="optimal")
    write_official_results(tmp_path, results)
    for name, values in expected.items():
        found = np.loadtxt(tmp_path / name)
        np.testing.assert_allclose(found, values, atol=1.1e-3, err_msg=name)
    assert (found[:, 1] >= values[:, 1] - 5e-7).all()


def test_a_perfect_map_scores_1_with_every_annotator():
    lines = np.zeros((2, 30, 30), bool)
    lines[:, 10] = lines[:, :, 20] = True
    counts = count_pixels(lines[0] * 1.0, lines, thresholds=3, matching="optimal")
    assert counts.recall.tolist() == counts.precision.tolist() == [1, 1, 1]
    assert counts.drawn.tolist() == [118] * 3


def test_a_pixel_that_any_annotator_drew_is_right():
    lines = np.zeros((2, 40, 40), bool)
    lines[0, 10], lines[1, 30] = True, True
    counts = count_pixels(lines.any(axis=0) * 0.6, lines, thresholds=1, matching="optimal")
    assert (counts.found[0], counts.drawn[0]) == (80, 80)
    assert (counts.right[0], counts.marked[0]) == (80, 80)


def test_thick_lines_are_thinned_unless_told_otherwise():
    truth = np.zeros((1, 40, 40), bool)
    truth[0, 20] = True
    thick = np.zeros((40, 40))
    thick[19:22] = 1.0
    assert count_pixels(thick, truth, thresholds=1).marked[0] < 45
    assert count_pixels(thick, truth, thresholds=1, thinned=False).marked[0] == 120


def test_nothing_marked_finds_nothing():
    _, lines = draw_task(0)
    counts = count_pixels(np.zeros(lines.shape[1:]), lines, thresholds=2)
    assert counts.found.tolist() == counts.marked.tolist() == [0, 0]


def test_several_processes_count_the_same():
    tasks = [draw_task(seed) for seed in range(3)]
    told = []
    alone = count_images(tasks, num_processes=1, thresholds=4)
    together = count_images(tasks, num_processes=2, thresholds=4, progress=told.append)
    for one, other in zip(alone, together, strict=True):
        for name in ("thresholds", "found", "drawn", "right", "marked"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert told == [1, 2, 3]


def test_an_error_ends_the_work_of_all_processes():
    tasks = [draw_task(0), (np.full((40, 50), 2.0), draw_task(0)[1]), *[draw_task(1)] * 40]
    told = []
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        count_images(tasks, num_processes=2, thresholds=9, progress=told.append)
    assert len(told) < 41


def test_a_script_of_three_lines_scores_a_folder(tmp_path):
    """It may be written without a guard against being imported."""
    scores, lines = draw_task(0)
    (tmp_path / "maps").mkdir()
    write_contour_map(tmp_path / "maps/1.png", scores)
    write_truth(tmp_path / "truth/1.mat", lines)
    docs = (Path(__file__).parents[3] / "docs/contours.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```py\n(.*?)```", docs, re.DOTALL)[:1]
    assert "score_contours" in snippet
    snippet = snippet.replace('"MAPS"', '"maps"').replace('"BSDS500"', '"truth"')
    (tmp_path / "script.py").write_text(snippet.replace(', split="test"', ""))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert 0 < ast.literal_eval(done.stdout)["f"] <= 1


def test_a_threshold_counts_the_same_in_any_company():
    """Equal maps are counted once."""
    scores, lines = draw_task(1)
    steps = np.round(scores * 4) / 4
    counts = count_pixels(steps, lines, thresholds=7, matching="optimal")
    single = count_pixels(steps, lines, thresholds=1, matching="optimal")
    assert counts.found[3] == single.found[0]
    assert counts.right[3] == single.right[0]


@pytest.mark.parametrize(
    ("scores", "boundaries", "told"),
    [
        (np.zeros((4, 5)), np.zeros((2, 5, 4), bool), r"shapes \(4, 5\) and \(2, 5, 4\)"),
        (np.zeros((4, 5)), np.zeros((0, 4, 5), bool), "at least one annotator"),
        (np.full((4, 5), 1.5), np.zeros((1, 4, 5), bool), "numbers from 0 to 1"),
        (np.full((4, 5), np.nan), np.zeros((1, 4, 5), bool), "numbers from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_told(scores, boundaries, told):
    with pytest.raises(ValueError, match=told):
        count_pixels(scores, boundaries)
