import importlib
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_ctxattr import cli
from keras_ctxattr.context.training import split_run
from keras_ctxattr.runs import Run, RunWarning
from tests.context.test_training import TINY
from tests.data.encoding import encode, make_pixels, write_images

runner = CliRunner()
app = importlib.import_module("keras_ctxattr.cli.app")  # the package's `app` is Typer's


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    contents = write_images(folder, ["a.png", "b.png"], height=300, width=400)
    (folder / "copy.png").write_bytes(contents[0])
    (folder / "small[b].png").write_bytes(encode(make_pixels(50, 50)))
    (folder / "cut.jpg").write_bytes(encode(make_pixels(64, 64), "JPEG")[:-200])
    (folder / "notes.txt").write_text("words")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


def run_main(monkeypatch, capfd, *arguments: object) -> tuple[int, str, str]:
    """Runs `main` as the shell does and gives its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["ctxattr", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capfd.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def test_check_as_json_counts_and_explains(photos, monkeypatch, capfd) -> None:
    code, out, _ = run_main(monkeypatch, capfd, "check", photos, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["num_files"] == 6
    assert report["num_usable"] == 2
    assert report["formats"] == {"png": 2}
    assert report["skips"] == {"duplicate": 1, "not an image": 1, "too small": 1, "unreadable": 1}
    reasons = {row["key"]: row["reason"] for row in report["skipped"]}
    assert reasons["copy.png"] == "duplicate of a.png"
    assert reasons["small[b].png"] == "too small: 50x50 (height x width)"
    assert reasons["notes.txt"] == "not an image"
    assert set(reasons) == {"copy.png", "small[b].png", "cut.jpg", "notes.txt"}
    assert report["pass_seconds"] > 0 and report["scan_seconds"] > 0
    assert report["pass_steps"] == 1 and report["cache_bytes"] == 0


def test_check_counts_what_it_put_into_the_cache(tmp_path, monkeypatch, capfd) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.tif").write_bytes(encode(make_pixels(300, 400), "TIFF"))
    _, out, _ = run_main(monkeypatch, capfd, "check", tmp_path / "photos", "--json")
    converted = list((tmp_path / "ctxattr").rglob("*.png"))
    assert json.loads(out)["cache_bytes"] == converted[0].stat().st_size > 0


def test_check_says_what_a_training_takes_on_the_disk() -> None:
    from keras_ctxattr.cli.check import RUN_BYTES
    from keras_ctxattr.context.recipe import ContextRecipe, build_predictor

    model = build_predictor(ContextRecipe())
    num_values = sum(int(np.prod(variable.shape)) for variable in model.variables)
    # Weights and momentum in float32; three checkpoints and the model.
    assert pytest.approx(4 * 2 * 4 * num_values, rel=0.01) == RUN_BYTES


def test_check_shows_a_table_with_every_skip(photos, monkeypatch, capfd) -> None:
    code, out, _ = run_main(monkeypatch, capfd, "check", photos, "--list-skipped")
    assert code == 0
    for text in ("png: 2", "duplicate of a.png", "small[b].png", "too small: 50x50", "notes.txt"):
        assert text in out
    for text in ("disk, cache", "disk, a training", "scan", "1 training steps"):
        assert text in out


def test_check_says_how_to_list_what_is_no_image(photos, monkeypatch, capfd) -> None:
    _, out, _ = run_main(monkeypatch, capfd, "check", photos)
    assert "notes.txt" not in out
    assert "... and 1 that are no images: --list-skipped shows all" in out


def test_long_lists_are_cut_unless_asked_for(tmp_path, monkeypatch, capfd) -> None:
    write_images(tmp_path / "photos", ["a.png"], height=300, width=400)
    for number in range(30):
        (tmp_path / "photos" / f"bad{number:02d}.jpg").write_bytes(b"words")
    _, out, _ = run_main(monkeypatch, capfd, "check", tmp_path / "photos")
    assert "bad19.jpg" in out
    assert "bad20.jpg" not in out
    assert "10 more" in out
    _, out, _ = run_main(monkeypatch, capfd, "check", tmp_path / "photos", "--list-skipped")
    assert "bad29.jpg" in out


def test_all_too_small_is_told_not_failed(tmp_path, monkeypatch, capfd) -> None:
    write_images(tmp_path / "photos", ["a.png"], height=40, width=40)
    code, out, _ = run_main(monkeypatch, capfd, "check", tmp_path / "photos")
    assert code == 0
    assert "too small: 1" in out


@pytest.fixture
def tiny_recipe(monkeypatch) -> None:
    from keras_ctxattr import quickstart

    monkeypatch.setattr(quickstart, "quickstart_recipe", lambda: TINY)


@pytest.fixture(scope="module")
def more_photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("more photos")
    write_images(folder, [f"{number}.png" for number in range(7)], height=300, width=400)
    return folder


@pytest.mark.slow
def test_quickstart_learns_from_photographs_and_export_repeats_its_module(
    more_photos, tmp_path, monkeypatch, capfd, tiny_recipe
) -> None:
    out = tmp_path / "q1"
    # A wrong folder used to occupy the output for the right one.
    code, _, error = run_main(monkeypatch, capfd, "quickstart", tmp_path / "none", "--out", out)
    assert code == cli.ERROR_CODE and "must exist" in error and not out.exists()
    (out / "attributes").mkdir(parents=True)  # what is not its own once was deleted
    (out / "attributes/mine.txt").write_text("mine")
    code, told, error = run_main(
        monkeypatch, capfd, "quickstart", more_photos, "--out", out, "--minutes", 0.02
    )
    assert code == 0, error
    assert (out / "attributes/mine.txt").read_text() == "mine"
    assert "photographs to learn from" in error
    lines = told.splitlines()
    held_out = list(split_run(Run.read(out / "run"))[1].keys)
    assert lines[0].startswith("Held out, never learnt from: ")
    assert all(key in lines[0] for key in held_out[:3])
    assert "Demonstration" not in told
    assert lines[-1].startswith(f"Go on     ctxattr learn '{more_photos}' --out learnt")
    for picture in ("neighbours.png", "search.png"):
        assert (out / picture).stat().st_size > 0
    described = json.loads((out / "module" / "module.json").read_text())
    assert described["attributes"]["unit"] == "patch"
    assert described["config"]["recipe"] == Run.read(out / "run").config["recipe"]
    assert described["config"]["attributes"]["recipe"]["num_attributes"] == 32
    accuracy = Run.read(out / "run").summary["accuracy"]
    assert described["metrics"]["held_out_accuracy"] == accuracy
    module = tmp_path / "module"
    code, told, error = run_main(monkeypatch, capfd, "export", out / "run", "--out", module)
    assert code == 0 and str(module) in told, error
    again = json.loads((module / "module.json").read_text())
    assert again["metrics"] == described["metrics"]


def test_export_of_a_module_writes_versions_for_a_server(tmp_path, monkeypatch, capfd) -> None:
    pytest.importorskip("tf2onnx")
    from keras_ctxattr.backbones import small
    from keras_ctxattr.export import export_module, read_module

    module = export_module(small(width=4, num_features=8), tmp_path / "module")
    models = tmp_path / "models" / "photos"
    wishes = ("--out", models, "--serving", "--onnx", "--license", "CC-BY-4.0")
    code, told, error = run_main(monkeypatch, capfd, "export", module, *wishes)
    assert code == 0 and error == ""
    assert f"--model_name=photos --model_base_path={models}" in told
    assert str(models / "1/model.onnx") in told
    assert read_module(models / "1")["license"] == "CC-BY-4.0"
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    code, told, error = run_main(monkeypatch, capfd, "export", module, *wishes)
    assert code == cli.ERROR_CODE and told == ""
    assert error.startswith("ctxattr: ONNX needs") and "keras_ctxattr[onnx]" in error
    assert error.count("\n") == 1
    assert [path.name for path in models.iterdir()] == ["1"]


@pytest.mark.slow
def test_quickstart_without_photographs_says_that_it_is_a_demonstration(
    tmp_path, monkeypatch, capfd, tiny_recipe
) -> None:
    monkeypatch.chdir(tmp_path)
    code, told, error = run_main(monkeypatch, capfd, "quickstart", "--minutes", 0.02)
    assert code == 0, error
    lines = told.splitlines()
    assert lines[0] == (
        "Demonstration on 11 bundled scenes, not evidence. Held out: coffee.png, china.jpg."
    )
    assert lines[-1].startswith("Go on     ctxattr learn YOUR_PHOTOS --out learnt")
    assert (tmp_path / "quickstart" / "module" / "saved_model.pb").exists()


def test_long_list_of_held_out_photographs_is_cut() -> None:
    from keras_ctxattr.cli.learn import _name_some

    assert _name_some(["a", "b", "c"]) == "a, b, c"
    assert _name_some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_scan_bar_goes_when_the_scan_is_complete(monkeypatch) -> None:
    """Training follows in the same call, with a line of its own."""
    events: list[object] = []

    class Bar:
        def update(self, task: int, **values: object) -> None:
            events.append((values["completed"], values["total"]))

        def stop(self) -> None:
            events.append("gone")

    monkeypatch.setattr(app, "_start_bar", lambda what: (Bar(), 0))
    with pytest.raises(ValueError), app.scan_progress() as progress:
        for done, total in ((1000, None), (16, 20), (20, 20), (5, 9)):
            progress(done, total)
        raise ValueError
    assert events == [(1000, None), (16, 20), (20, 20), "gone", (5, 9), "gone"]


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys) -> None:
    now = [100.0]
    monkeypatch.setattr(app.time, "monotonic", lambda: now[0])
    with app.show_progress("describing images") as progress:
        for done, seconds in ((1, 0.0), (50, 20.0), (100, 20.0), (120, 5.0)):
            now[0] += seconds
            progress(done, 400)
    error = capsys.readouterr().err
    assert error == "describing images: 100 of 400, 2.5/s, 120 s left\n"


def test_warning_about_a_run_is_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(warnings, "formatwarning", app._FORMAT_WARNING)
    app.print_warnings_in_a_line()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # pytest records warnings instead of showing them.
        text = warnings.formatwarning(RunWarning("a file is damaged"), RunWarning, "x.py", 7)
    assert text == "warning: a file is damaged\n"
    assert "x.py:7" in warnings.formatwarning("other", UserWarning, "x.py", 7)


@pytest.mark.parametrize("name", ["nowhere", "empty", "tfds:no_such_data_set"])
def test_bad_photos_are_one_line_on_stderr(name: str, tmp_path, monkeypatch, capfd) -> None:
    (tmp_path / "empty").mkdir()
    source = name if ":" in name else tmp_path / name
    code, out, error = run_main(monkeypatch, capfd, "check", source)
    assert code == cli.ERROR_CODE
    assert out == ""
    assert error.startswith("ctxattr: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_debugging_shows_the_traceback(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CTXATTR_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["ctxattr", "check", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="must exist"):
        cli.main()


def test_faults_of_ours_are_not_hidden(monkeypatch) -> None:
    def fail(**_: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(KeyError):
        cli.main()


def test_unknown_flag_is_a_usage_error() -> None:
    result = runner.invoke(cli.app, ["check", "photos", "--no-such-flag"])
    assert result.exit_code == 2
    assert "--no-such-flag" in result.output


def test_help_and_version_load_no_tensorflow(tmp_path) -> None:
    program = (
        "import sys\nfrom keras_ctxattr import cli\n"
        "try:\n    cli.main()\nfinally:\n    assert 'tensorflow' not in sys.modules"
    )
    for flag in ("--help", "--version"):
        result = subprocess.run(
            [sys.executable, "-c", program, flag], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


def test_stderr_of_a_fresh_process_holds_nothing_but_our_line(tmp_path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "keras_ctxattr.cli", "check", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == cli.ERROR_CODE
    assert result.stderr.startswith("ctxattr: Photographs must be")
    assert result.stderr.count("\n") == 1
