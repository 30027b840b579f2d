"""Every snippet of the README and of docs/ runs, in the order in which a reader would try them."""

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.flags import parse_flags

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEARNING = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
PAGES = "\n".join([README, *(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))])
# Tested where they live: they take minutes, a server or a fresh environment.
ELSEWHERE = ("learn ", "quickstart", "serve ")
# The same code on less: a few steps of a small network.
SMALLER = {
    "num_features=1024": "num_features=16",
    "hidden_units=1024": "hidden_units=16",
    "steps_per_epoch=100": "steps_per_epoch=1",
    "epochs=10": "epochs=1",
    "num_steps=10": "num_steps=1",
    "num_attributes=64": "num_attributes=8",
    "ca.grid_batches(training": "ca.grid_batches(training, SMALL",
    "ca.grid_batches(held_out": "ca.grid_batches(held_out, SMALL",
}


def snippets(page):
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def commands(page):
    """Gives the words of every `ctxattr` command in a block of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = (line.strip() for block in blocks for line in block.splitlines())
    found = [line.removeprefix("ctxattr ") for line in lines if line.startswith("ctxattr ")]
    return [shlex.split(line, comments=True) for line in found if not line.startswith(ELSEWHERE)]


def write_pictures(folder, count, seed):
    """Writes noise in two folders, which are classes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = rng.integers(0, 255, (10, 12, 3), np.uint8)
        path = Path(folder) / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(coarse, (300, 250)))
        if number < 4:
            cv2.imwrite(str(Path(folder) / f"{number}.jpg"), cv2.resize(coarse[::-1], (300, 250)))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Gives the folder of a reader who has photographs, a module, and what `learn` writes."""
    from keras_ctxattr.backbones import compact
    from keras_ctxattr.export import export_module
    from tests.search.learnt import learn_small_module

    folder = tmp_path_factory.mktemp("reader")
    write_pictures(folder / "PHOTOS", 40, seed=0)
    write_pictures(folder / "MORE", 2, seed=1)
    cv2.imwrite(str(folder / "QUERY.jpg"), np.full((120, 150, 3), 90, np.uint8))
    export_module(compact(width=4, num_features=8), folder / "module")
    learn_small_module(folder / "PHOTOS", folder / "learnt" / "attributes")
    return folder


def run(words, monkeypatch):
    from keras_ctxattr import cli

    monkeypatch.setattr(sys, "argv", ["ctxattr", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code, words


@pytest.mark.slow
def test_commands_and_snippets_run_in_order(reader, monkeypatch):
    import keras_ctxattr as ca

    monkeypatch.chdir(reader)
    monkeypatch.setenv("XDG_CACHE_HOME", str(reader / "cache"))
    found = commands(README)
    assert {words[0] for words in found} >= {"check", "index", "search", "explain", "compare"}
    for words in found:
        run(words, monkeypatch)
    for made in ("found.png", "why.png", "compared/results.json", "vectors/images.parquet"):
        assert Path(made).exists(), made
    for words in (
        ["add", "my.index", "MORE"],
        ["remove", "my.index", "MORE/*"],
        ["info", "my.index"],
    ):
        run(words, monkeypatch)
    names = {"SMALL": ca.GridConfig(images_per_batch=2, patches_per_batch=16, pairs_per_batch=60)}
    for page in (README, LEARNING):
        assert len(snippets(page)) >= 3
        for snippet in snippets(page):
            if "tensorflow_hub" in snippet and not importlib.util.find_spec("tensorflow_hub"):
                continue  # an extra
            for full, small in SMALLER.items():
                snippet = snippet.replace(full, small)
            exec(compile(snippet, "README.md", "exec"), names)
    assert Path("context.keras").exists()


def test_every_command_named_in_the_readme_exists():
    commands = set(re.findall(r"^(?:.*&& )?ctxattr ([\w-]+)", PAGES, re.MULTILINE))
    from keras_ctxattr.cli.app import app

    known = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
    }
    assert commands
    assert commands <= known
    modules = set(re.findall(r"python -m ((?:training|evaluation)\.\w+)", PAGES))
    assert modules
    for module in modules:
        assert Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py").exists()


SCRIPT_COMMANDS = re.findall(
    r"python -m ((?:training|evaluation)\.\w+)((?: [^\s`|#\\]+)+)",
    re.sub(r" *\\\n *", " ", PAGES),  # commands that go on in the next line
    re.MULTILINE,
)


@pytest.mark.parametrize(("module", "flags"), SCRIPT_COMMANDS)
def test_every_flag_named_in_the_readme_exists(module, flags):
    words = ["0" if word == "S" else word for word in shlex.split(flags)]
    if words[0].startswith("--"):
        parse_flags(importlib.import_module(module).Config, words)
