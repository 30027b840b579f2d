"""`evaluation.normals`: figures and a picture of the frames that a run held out."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from evaluation import normals
from keras_ctxattr.runs import RunError
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe
from tests.tasks.normals.scenes import write_rooms
from training import finetune_normals
from training.flags import parse_flags

RECIPE = NormalsRecipe(
    longer_side=64,
    head_widths=(8,),
    frames_per_batch=2,
    radius=2,
    optimizer_steps=60,
    learning_rate=0.005,
    dtype_policy="float32",
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_rooms(tmp_path_factory.mktemp("frames") / "rooms", 6)


@pytest.fixture(scope="module")
def run(frames, tmp_path_factory):
    """Gives a run that has learnt from four rooms and held out two."""
    folder = tmp_path_factory.mktemp("runs") / "normals"
    words = ["--frames", str(frames), "--backbone", "untrained:small", "--run", str(folder)]
    config = parse_flags(finetune_normals.Config, [*words, "--held-out", "0.34"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_normals, "load_recipe", lambda *_: RECIPE)
        finetune_normals.main(config)
    return folder


def parse(run, out, *more):
    return parse_flags(normals.Config, ["--run", str(run), "--out", str(out), *more])


def test_from_a_run_to_figures(run, tmp_path, capsys):
    normals.report(normals.main(parse(run, tmp_path / "out", "--num-pictures", "9")))
    table = capsys.readouterr().out
    assert "mean normal of each position" in table and "22.5" in table
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [one["name"] for one in results["frames"]] == ["frame-000004", "frame-000005"]
    assert results["data"]["num_images"] == 2 and "held out" in results["data"]["images"]
    for kind in normals.KINDS:
        assert set(results[kind]) == set(normals.MEASURES)
        assert results[kind]["within_11.25"] <= results[kind]["within_30"] <= 1
    # A constant is wrong by about half the 90 degrees between floor and wall.
    assert 30 < results["mean"]["mean"] < 60
    assert results["mean_by_position"]["mean"] < results["mean"]["mean"]
    assert results["network"]["mean"] < 0.6 * results["mean"]["mean"]
    counts = [one["num_valid"] for one in results["frames"]]
    means = [one["network"] for one in results["frames"]]
    assert results["network"]["mean"] == pytest.approx(np.average(means, weights=counts), rel=1e-5)
    picture = cv2.imread(str(tmp_path / "out/normals.png"))
    assert picture.shape[0] > 2 * 288 and picture.shape[1] > 4 * 288


def test_the_picture_depends_on_the_seed_alone(run, tmp_path):
    pictures = []
    for number, seed in enumerate("001"):
        out = tmp_path / str(number)
        normals.main(parse(run, out, "--num-pictures", "1", "--seed", seed))
        pictures.append((out / "normals.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_frames_that_have_moved_and_other_frames(run, frames, tmp_path):
    first = normals.main(parse(run, tmp_path / "first"))
    moved = write_rooms(tmp_path / "moved", 6)
    again = normals.main(parse(run, tmp_path / "again", "--frames", str(moved)))
    assert again["network"] == first["network"]
    other = write_rooms(tmp_path / "other", 3)
    results = normals.main(parse(run, tmp_path / "every", "--frames", str(other), "--every"))
    assert results["data"]["num_images"] == 3 and "all frames" in results["data"]["images"]
    with pytest.raises(ValueError, match=r"other must hold.*2 of 2 missing, such as frame-000004"):
        normals.main(parse(run, tmp_path / "wrong", "--frames", str(other)))
    assert not (tmp_path / "wrong").exists()


def test_bad_input_is_one_line(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(run, tmp_path / "out", "--every")
    assert "`--every` needs `--frames`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(run, tmp_path / "out", "--num-pictures", "0")
    assert "`--num-pictures` must be at least 1" in capsys.readouterr().err
    with pytest.raises(RunError, match="no run folder"):
        normals.main(parse(tmp_path, tmp_path / "out"))


def test_a_run_that_is_not_finished_is_refused(run, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(RunError, match="not finished"):
        normals.main(parse(copy, tmp_path / "out"))


def test_nyu_says_whose_frames_they_are(run, tmp_path):
    config = parse(run, tmp_path)
    for splits, expected in (("s.mat", "NYU's test frames"), (None, "the block of frames")):
        assert normals._describe(config, {"place": {"splits": splits}}).startswith(expected)
    every = dataclasses.replace(config, frames="f", every=True)
    assert normals._describe(every, {"place": {"splits": None}}) == "all frames of --frames"
