"""Every Python snippet of the README runs, in the order in which a reader would try them."""

import importlib
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.flags import parse_flags

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
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


def snippets():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_snippets_run_in_order(tmp_path, monkeypatch):
    import keras_ctxattr as ca
    from keras_ctxattr.backbones import compact
    from keras_ctxattr.export import export_module

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(6):
        picture = rng.integers(0, 255, (250, 300, 3), np.uint8)
        Path("PHOTOS").mkdir(exist_ok=True)
        cv2.imwrite(f"PHOTOS/{number}.jpg", picture)
    export_module(compact(width=4, num_features=8), "module")
    config = ca.GridConfig(images_per_batch=2, patches_per_batch=16, pairs_per_batch=60)
    names = {"SMALL": config}
    assert len(snippets()) >= 3
    for snippet in snippets():
        if "tensorflow_hub" in snippet:
            pytest.importorskip("tensorflow_hub")
        for full, small in SMALLER.items():
            snippet = snippet.replace(full, small)
        exec(compile(snippet, "README.md", "exec"), names)
    assert Path("context.keras").exists()


def test_every_command_named_in_the_readme_exists():
    commands = set(re.findall(r"^(?:.*&& )?ctxattr (\w+)", README, re.MULTILINE))
    from keras_ctxattr.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands
    assert commands <= known
    modules = set(re.findall(r"python -m ((?:training|evaluation)\.\w+)", README))
    assert modules
    for module in modules:
        assert Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py").exists()


SCRIPT_COMMANDS = re.findall(
    r"python -m ((?:training|evaluation)\.\w+)((?: [^\s`|#\\]+)+)", README, re.MULTILINE
)


@pytest.mark.parametrize(("module", "flags"), SCRIPT_COMMANDS)
def test_every_flag_named_in_the_readme_exists(module, flags):
    words = ["0" if word == "S" else word for word in shlex.split(flags)]
    if words[0].startswith("--"):
        parse_flags(importlib.import_module(module).Config, words)
