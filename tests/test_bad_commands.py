"""What a user can get wrong on a command line ends in one line that says how to mend it."""

import sys

import cv2
import numpy as np
import pytest

from evaluation import aberration, nearest_neighbours, pretext_accuracy, speed
from keras_ctxattr import cli
from training import pretrain_context
from training.flags import parse_flags, run_script

CTXATTR = [
    (["quickstart", "{empty}/nowhere"], "must"),
    (["quickstart", "{empty}"], "must"),
    (["quickstart", "{words}"], "usable"),
    (["quickstart", "{photos}", "--minutes", "0"], "--minutes"),
    (["quickstart", "{photos}", "--minutes", "soon"], "--minutes"),
    (["quickstart", "{photos}", "--seed", "-1"], "--seed"),
    (["quickstart", "{photos}", "--out", "{words}/text.txt"], "text.txt"),
    (["quickstart", "{tiny}"], "usable"),
    (["export", "{empty}/nowhere", "--out", "{empty}/module"], "no run folder"),
    (["export", "{words}", "--out", "{empty}/module"], "no run folder"),
    (["export", "{photos}"], "--out"),
    (["export"], "RUN"),
    (["check"], "PHOTOS"),
    (["check", "{photos}", "--colour"], "--colour"),
    (["frobnicate"], "frobnicate"),
]
SCRIPTS = [
    (pretrain_context, ["--run", "{empty}/run"], "--images"),
    (pretrain_context, ["--images", "{photos}"], "--run"),
    (pretrain_context, ["--images", "{empty}", "--run", "{empty}/run"], "must"),
    (pretrain_context, ["--images", "{photos}", "--run", "{words}"], "run"),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--recipe", "x"], "--recipe"),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--steps", "0"], "steps"),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--steps", "a"], "--steps"),
    (
        pretrain_context,
        ["--images", "{photos}", "--run", "{empty}/r", "--minutes", "-1"],
        "minutes",
    ),
    (
        pretrain_context,
        ["--images", "{photos}", "--run", "{empty}/r", "--minutes", "1", "--steps", "1"],
        "not both",
    ),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--jitter", "40"], "jitter"),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--colour", "red"], "colour"),
    (
        pretrain_context,
        ["--images", "{photos}", "--run", "{empty}/r", "--held-out", "2"],
        "held_out",
    ),
    (pretrain_context, ["--images", "{photos}", "--run", "{empty}/r", "--speed", "9"], "--speed"),
    (pretext_accuracy, ["--run", "{empty}/nowhere", "--out", "{empty}/out"], "no run folder"),
    (pretext_accuracy, ["--out", "{empty}/out"], "--run"),
    (pretext_accuracy, ["--run", "r", "--out", "o", "--pairs-per-image", "3"], "multiple of 2"),
    (nearest_neighbours, ["--out", "{empty}/out"], "--run"),
    (nearest_neighbours, ["--module", "{words}", "--out", "{empty}/o", "--images", "{photos}"], ""),
    (aberration, ["--images", "{photos}", "--out", "{empty}/o", "--strength", "-1"], "strength"),
    (aberration, ["--images", "{empty}", "--out", "{empty}/o"], "must"),
    (speed, ["--only", "lunch"], "--only"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders with nothing, with words, with two photographs, and with tiny ones."""
    found = {name: tmp_path_factory.mktemp(name) for name in ("empty", "words", "photos", "tiny")}
    (found["words"] / "text.txt").write_text("no photographs here")
    rng = np.random.default_rng(0)
    for number in range(2):
        picture = rng.integers(0, 255, (260, 300, 3), np.uint8)
        cv2.imwrite(str(found["photos"] / f"{number}.png"), picture)
        cv2.imwrite(str(found["tiny"] / f"{number}.png"), picture[:20, :30])
    return found


def check_one_line(text, start, mention):
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith(start)
    assert mention in lines[0]
    assert "Traceback" not in text


@pytest.mark.parametrize(("arguments", "mention"), CTXATTR, ids=lambda value: " ".join(value))
def test_ctxattr_says_it_in_one_line(arguments, mention, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(**places) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["ctxattr", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == cli.ERROR_CODE
    errors = capsys.readouterr().err.splitlines()
    # `quickstart` says first what it is about to do.
    check_one_line("\n".join(errors[-1:]), "ctxattr: ", mention)
    assert not any("Traceback" in line for line in errors)
    assert not list(places["empty"].iterdir())


@pytest.mark.parametrize(("script", "arguments", "mention"), SCRIPTS)
def test_scripts_say_it_in_one_line(script, arguments, mention, places, capsys):
    arguments = [argument.format(**places) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        run_script(script.main, parse_flags(script.Config, arguments))
    assert stop.value.code == 2
    check_one_line(capsys.readouterr().err, "", mention)
