"""`training.finetune_normals`: from frames to a model, and what it says of bad input."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
import scipy.io

from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.normals.predicting import load_normals_model
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe
from tests.tasks.normals.scenes import draw_room, write_rooms
from tests.tasks.normals.test_network import tiny_features
from training import finetune_normals
from training.configs import load_recipe, recipe_names
from training.flags import parse_flags

SMALL = {
    "longer_side": 64,
    "head_widths": (6,),
    "frames_per_batch": 2,
    "radius": 2,
    "dtype_policy": "float32",
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Recipes of a small head on small photographs, and a small network."""
    monkeypatch.setattr(
        finetune_normals,
        "load_recipe",
        lambda name, kind: dataclasses.replace(load_recipe(name, kind), **SMALL),
    )


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_rooms(tmp_path_factory.mktemp("frames") / "rooms", 5)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Writes a network of one convolution."""
    path = tmp_path_factory.mktemp("networks") / "tiny.keras"
    tiny_features().model.save(path)
    return path


@pytest.fixture
def parse(backbone):
    """Gives the function from frames, a run folder and further words to a config."""

    def give(frames, run, *more):
        words = ["--frames", str(frames), "--backbone", str(backbone), "--run", str(run)]
        return parse_flags(finetune_normals.Config, [*words, *more])

    return give


def test_from_frames_to_a_model(parse, frames, tmp_path, capsys):
    config = parse(frames, tmp_path / "run", "--steps", "3", "--held-out", "0.4")
    config = dataclasses.replace(config, backbone="untrained:small")
    finetune_normals._report(config)
    assert "3 steps on 3 frames" in capsys.readouterr().out
    run = Run.read(tmp_path / "run", kind="normals")
    assert run.config["frames"] == [f"frame-{number:06d}" for number in range(3)]
    assert run.summary["held_out"] == ["frame-000003", "frame-000004"]
    assert run.summary["place"]["frames"] == str(frames)
    assert (tmp_path / "run/metrics.csv").is_file()
    assert load_normals_model(tmp_path / "run").predict(draw_room(0)[0]).shape == (96, 128, 3)
    finetune_normals._report(config)  # once more: it is finished
    assert "3 steps on 3 frames" in capsys.readouterr().out


def test_flags_reach_the_recipe_the_split_and_the_camera(parse, frames, tmp_path):
    more = ["--steps", "1", "--learning-rate", "0.5", "--no-train-backbone", "--block", "0"]
    more += ["--colour-focal", "105", "--colour-offset", "0.02", "--seed", "3"]
    finetune_normals.main(parse(frames, tmp_path / "run", *more))
    run = Run.read(tmp_path / "run")
    recipe = run.config["recipe"]
    assert recipe["learning_rate"] == 0.5 and recipe["train_backbone"] is False
    assert run.config["seed"] == 3 and run.summary["held_out"] == ["frame-000000"]
    place = run.summary["place"]
    assert place["colour_focal"] == 105 and place["colour_offset"] == 0.02


def test_nyu_is_divided_by_its_own_split(parse, tmp_path):
    path, splits = tmp_path / "nyu_depth_v2_labeled.mat", tmp_path / "splits.mat"
    depth = np.full((640, 480), 2.0, np.float32)
    with h5py.File(path, "w") as file:
        file["images"] = np.full((3, 3, 640, 480), 90, np.uint8)
        file["depths"] = file["rawDepths"] = np.stack([depth] * 3)
    scipy.io.savemat(splits, {"trainNdxs": np.array([[3]]), "testNdxs": np.array([[1], [2]])})
    config = parse(path, tmp_path / "run", "--splits", str(splits), "--steps", "1")
    summary = finetune_normals.main(config)
    assert Run.read(tmp_path / "run").config["frames"] == ["0003"]
    assert summary["held_out"] == ["0001", "0002"] and summary["share_valid"] > 0.95


def test_the_nyu_recipe_is_taken_with_a_split(parse, monkeypatch, tmp_path):
    asked = []

    def load(name, kind):
        asked.append(name)
        return load_recipe(name, kind)

    monkeypatch.setattr(finetune_normals, "load_recipe", load)
    for more in ([], ["--splits", "s.mat"], ["--recipe", "normals_nyuv2"]):
        finetune_normals._choose_recipe(parse("n.mat", tmp_path, *more))
    assert asked == ["normals_small", "normals_nyuv2", "normals_nyuv2"]


def test_there_are_both_recipes():
    assert recipe_names(NormalsRecipe) == ["normals_nyuv2", "normals_small"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--held-out", "1.5"], r"share held out must be over 0 and under 1.*held_out=1.5"),
        (["--held-out", "0.4", "--block", "9"], r"`block` must be from 0 to 1.*block=9"),
        (["--recipe", "paper"], r"`--recipe` must be one of normals_nyuv2, normals_small"),
        (["--splits", "splits.mat"], r"`splits` belongs to nyu_depth_v2_labeled.mat"),
        (["--steps", "0"], r"`optimizer_steps` must be at least 1"),
        (["--colour-offset", "0.1"], r"`colour_offset` needs `colour_focal`"),
    ],
)
def test_bad_flags_are_one_line(parse, frames, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        finetune_normals.main(parse(frames, tmp_path / "run", *more))
    assert not (tmp_path / "run").exists()


def test_frames_or_a_backbone_that_are_not_there_are_told(parse, frames, tmp_path):
    with pytest.raises(ValueError, match=r"exists and can be read. Received: .*nowhere"):
        finetune_normals.main(parse(tmp_path / "nowhere", tmp_path / "run"))
    config = dataclasses.replace(parse(frames, tmp_path / "run"), backbone="nowhere")
    with pytest.raises(ValueError, match=r"A network must be.*Received: nowhere"):
        finetune_normals.main(config)


def test_the_run_folder_has_no_pickle(parse, frames, tmp_path):
    finetune_normals.main(parse(frames, tmp_path / "run", "--steps", "1"))
    with np.load(tmp_path / "run/baselines.npz", allow_pickle=False) as stored:
        assert sorted(stored) == ["by_position", "everywhere"]
    json.loads((tmp_path / "run/summary.json").read_text())
