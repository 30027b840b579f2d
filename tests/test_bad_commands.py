"""What a user gets wrong ends in one line that says how to mend it, and leaves nothing behind."""

import sys
import types

import cv2
import numpy as np
import pytest

from evaluation import (
    aberration,
    image_normalization,
    mining,
    nearest_neighbours,
    normals,
    peak_memory,
    pretext_accuracy,
    speed,
)
from keras_ctxattr import cli
from training import finetune_normals, pretrain_context
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
    (["learn", "{empty}/nowhere", "--out", "{empty}/run"], "must exist"),
    (["learn", "{photos}", "--out", "{empty}/run"], "At least 32 photographs"),
    (["learn", "{photos}", "--out", "{empty}/run", "--bits", "12"], "multiple of 8"),
    (["learn", "{photos}", "--out", "{empty}/run", "--hours", "0"], "`hours` must be"),
    (["learn", "{photos}", "--out", "{words}"], "text.txt"),
    (["learn", "{photos}"], "--out"),
    (["export", "{empty}/nowhere", "--out", "{empty}/module"], "no run folder"),
    (["export", "{words}", "--out", "{empty}/module"], "no run folder"),
    (["export", "{photos}"], "--out"),
    (["export"], "RUN"),
    (["export", "{words}", "--out", "{empty}/m", "--serving", "--overwrite"], "never overwritten"),
    (["export", "{words}", "--out", "{empty}/models", "--serving"], "no run folder"),
    (["export", "{words}", "--out", "{empty}/module", "--licence", "MIT"], "--licence"),
    (["serve", "{words}", "--port", "0"], "must be a module"),
    (["serve", "{empty}/nowhere", "--port", "0"], "must be a module"),
    (["serve", "{words}", "--port", "70000"], "--port"),
    (["serve", "{words}", "--max-bytes", "0"], "--max-bytes"),
    (["serve", "{words}", "--host", "no such host", "--port", "0"], "free address"),
    (["serve"], "MODULE"),
    (["check"], "PHOTOS"),
    (["check", "{photos}", "--colour"], "--colour"),
    (["frobnicate"], "frobnicate"),
    (["index", "{photos}", "--out", "{empty}/index"], "--module"),
    (["index", "{photos}", "--module", "{words}"], "--out"),
    (["index", "{photos}", "--module", "{words}", "--out", "{empty}/index"], "A module must be"),
    (["mine", "{photos}", "--out", "{empty}/mined"], "--module"),
    (["encode", "{photos}", "--module", "{words}", "--out", "{empty}/table"], "A module must be"),
    (["mine", "{photos}", "--module", "{words}", "--out", "{empty}/mined"], "A module must be"),
    (["mine", "{photos}", "--module", "{words}", "--out", "{words}/text.txt"], "`--out` must be"),
    (["mine", "{photos}", "--module", "{words}", "--out", "a", "--search", "b"], "`search` must"),
    (["add", "{words}", "{photos}"], "An index must be a folder"),
    (["add", "{words}"], "PHOTOS"),
    (["remove", "{empty}/nowhere", "a"], "An index must be a folder"),
    (["remove", "{words}"], "NAMES"),
    (["info", "{words}"], "A module must be"),
    (["info", "{empty}/nowhere"], "A module must be"),
    (["search", "{words}", "{photos}/0.png"], "An index must be a folder"),
    (["search", "{words}"], "QUERY"),
    (["search", "{words}", "a", "-k", "0"], "-k"),
    (["search", "{words}", "a", "--bit", "1", "--bit", "-1"], "`--bit` must be"),
    (["search", "{words}", "a", "--bit", "red"], "`--bit` must be"),
    (["search", "{words}", "a", "--json", "--sheet", "a.png"], "not both"),
    (["search", "{words}", "a", "--sheet", "a.jpg"], "`--sheet` must be"),
    (["explain", "{words}", "{photos}/0.png"], "An index must be a folder"),
    (["explain", "{words}", "a", "--sheet", "{words}"], "`--sheet` must be"),
    (["duplicates", "{words}"], "An index must be a folder"),
    (["duplicates", "{words}", "--distance", "-1"], "--distance"),
    (["duplicates", "{words}", "--similarity", "much"], "--similarity"),
    (["outliers", "{words}"], "An index must be a folder"),
    (["outliers", "{words}", "-k", "0"], "-k"),
    (["export-vectors", "{words}", "--out", "{empty}/out"], "An index must be a folder"),
    (["export-vectors", "{words}"], "--out"),
    (["compare", "{photos}"], "--module"),
    (["compare", "{photos}", "--module", "{words}"], "A network must be"),
    (["compare", "{photos}", "--module", "untrained"], "must come with a module"),
    (["compare", "{photos}", "--module", "keras:Net"], "keras.applications"),
    (["compare", "{photos}", "--module", "m", "--out", "{words}/text.txt"], "`--out` must be"),
    (["compare", "{photos}", "--module", "untrained:small"], "at least 3 photographs"),
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
    (pretext_accuracy, ["--run", "r", "--out", "o", "--seed", "-5"], "--seed"),
    (pretext_accuracy, ["--run", "r", "--out", "o", "--colour", "grey"], "--colour"),
    (pretext_accuracy, ["--run", "{words}", "--out", "{words}/text.txt"], "`--out` must be"),
    (image_normalization, ["--run", "r", "--out", "o", "--num-images", "0"], "--num-images"),
    (image_normalization, ["--run", "{empty}", "--out", "{empty}/new/out"], "no run folder"),
    (nearest_neighbours, ["--out", "{empty}/out"], "--run"),
    (nearest_neighbours, ["--run", "r", "--out", "o", "--num-patches", "0"], "--num-patches"),
    (
        nearest_neighbours,
        ["--module", "{words}", "--out", "{empty}/o", "--images", "{photos}"],
        "must be a module that `ctxattr export` or `export_module` wrote. Received: {words}",
    ),
    (aberration, ["--images", "{photos}", "--out", "{empty}/o", "--strength", "-1"], "strength"),
    (aberration, ["--images", "{photos}", "--out", "{empty}/o", "--minutes", "inf"], "--minutes"),
    (aberration, ["--images", "{photos}", "--out", "{empty}/o", "--run", "{words}"], "run folder"),
    (aberration, ["--images", "{photos}", "--out", "{empty}/o", "--no-regressors"], "--module"),
    (aberration, ["--images", "{empty}", "--out", "{empty}/o"], "must"),
    (mining, ["--images", "{photos}", "--out", "{empty}/o"], "--module"),
    (mining, ["--images", "{photos}", "--module", "{words}", "--out", "o"], "A module must be"),
    (normals, ["--run", "{empty}", "--out", "{empty}/o"], "no run folder"),
    (
        finetune_normals,
        ["--frames", "{empty}", "--backbone", "untrained:small", "--run", "{empty}/r"],
        "frame-NAME",
    ),
    (peak_memory, ["--manifest", "{empty}/nowhere.sqlite"], "nowhere.sqlite"),
    (peak_memory, ["--manifest", "m", "--num-steps", "0"], "--num-steps"),
    (speed, ["--only", "lunch"], "--only"),
    (speed, ["--peak-tflops", "nan"], "--peak-tflops"),
    (speed, ["--images", "{photos}", "--json", "{empty}/speed.json"], "JPEG"),
]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders with nothing, with words, with two photographs, and with tiny ones; the one with
    nothing is where the user stands."""
    found = {name: tmp_path / name for name in ("empty", "words", "photos", "tiny")}
    for folder in found.values():
        folder.mkdir()
    (found["words"] / "text.txt").write_text("no photographs here")
    rng = np.random.default_rng(0)
    for number in range(2):
        picture = rng.integers(0, 255, (260, 300, 3), np.uint8)
        cv2.imwrite(str(found["photos"] / f"{number}.png"), picture)
        cv2.imwrite(str(found["tiny"] / f"{number}.png"), picture[:20, :30])
    monkeypatch.chdir(found["empty"])
    return found


def everything_below(folder):
    """Gives the contents of every file, None for a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def check_one_line(text, start, mention):
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith(start)
    assert mention in lines[0]
    assert "Traceback" not in text


def name_of(value):
    """Names a test by its command line, and by what is mentioned."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    return " ".join(value) if isinstance(value, list) else None


@pytest.mark.parametrize(("arguments", "mention"), CTXATTR, ids=name_of)
def test_ctxattr_says_it_in_one_line(arguments, mention, places, tmp_path, monkeypatch, capsys):
    arguments = [argument.format(**places) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["ctxattr", *arguments])
    before = everything_below(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == cli.ERROR_CODE
    errors = capsys.readouterr().err.splitlines()
    # `quickstart` says first what it is about to do.
    check_one_line("\n".join(errors[-1:]), "ctxattr: ", mention)
    assert not any("Traceback" in line for line in errors)
    # What a failed start left made the next one, with the mistake mended, another run's folder.
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(("script", "arguments", "mention"), SCRIPTS, ids=name_of)
def test_scripts_say_it_in_one_line(script, arguments, mention, places, tmp_path, capsys):
    arguments = [argument.format(**places) for argument in arguments]
    before = everything_below(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_script(script.main, parse_flags(script.Config, arguments))
    assert stop.value.code == 2
    check_one_line(capsys.readouterr().err, "error: ", mention.format(**places))
    assert everything_below(tmp_path) == before
