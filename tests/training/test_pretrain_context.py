"""`python -m training.pretrain_context`, as it is typed."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from keras_ctxattr.runs import Run, RunError
from tests.context.test_training import TINY
from training import pretrain_context
from training.flags import parse_flags


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (400, 300)))
    return folder


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch):
    """Stands for a file of training/configs/, whose networks take minutes."""
    monkeypatch.setattr(pretrain_context, "load_recipe", lambda name, kind: TINY)


def parse(photos, run, *flags):
    return parse_flags(
        pretrain_context.Config, ["--images", str(photos), "--run", str(run), *flags]
    )


def test_flags_reach_the_run_and_it_ends_with_a_summary(photos, tmp_path, capsys):
    flags = ["--gap", "32", "--jitter", "4", "--colour", "project", "--seed", "3"]
    config = parse(photos, tmp_path / "run", *flags, "--steps", "2", "--held-out", "0.3")
    pretrain_context._report(config)
    assert "2 steps in" in capsys.readouterr().out
    run = Run.read(tmp_path / "run")
    assert run.finished and run.config["seed"] == 3 and run.config["held_out"] == 0.3
    recipe = run.config["recipe"]
    assert (recipe["grids"]["gap"], recipe["grids"]["jitter"]) == (32, 4)
    assert recipe["colour"] == "project"
    assert recipe["grids"]["patches_per_batch"] == TINY.grids.patches_per_batch
    with pytest.raises(RunError, match="recipe = "):
        pretrain_context.main(parse(photos, tmp_path / "run", "--steps", "2"))


def test_fresh_process_says_nothing_but_its_line(tmp_path):
    """Six lines of TensorFlow's own stood before it."""
    flags = ["--images", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run")]
    result = subprocess.run(
        [sys.executable, "-m", "training.pretrain_context", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: Photographs must be")
    assert result.stderr.count("\n") == 1
