import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from keras_ctxattr import cli
from tests.data.encoding import encode, make_pixels, write_images

runner = CliRunner()


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
    assert set(reasons) == {"copy.png", "small[b].png", "cut.jpg"}
    assert report["pass_seconds"] > 0


def test_check_shows_a_table_with_every_skip(photos, monkeypatch, capfd) -> None:
    code, out, _ = run_main(monkeypatch, capfd, "check", photos, "--list-skipped")
    assert code == 0
    for text in ("png: 2", "duplicate of a.png", "small[b].png", "too small: 50x50", "notes.txt"):
        assert text in out


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
