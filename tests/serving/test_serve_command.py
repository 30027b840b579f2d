"""`ctxattr serve`: it says where it listens, and ends cleanly."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from keras_ctxattr import cli
from keras_ctxattr.serving.running import address_of, is_loopback, listen

COMMAND = [sys.executable, "-m", "keras_ctxattr.cli", "serve"]


@pytest.mark.slow
def test_serve_answers_and_ends_with_ctrl_c(module_folder):
    process = subprocess.Popen(
        [*COMMAND, module_folder, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving   http://127.0.0.1:") and line.endswith("(Ctrl-C ends)\n")
        with urllib.request.urlopen(line.split()[1], timeout=30) as answer:
            assert json.load(answer)["name"] == "photos"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "Stopped.\n", "")


def run_main(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["ctxattr", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == cli.ERROR_CODE
    return capsys.readouterr().err.splitlines()


def test_a_port_in_use_is_one_line(module_folder, monkeypatch, capsys):
    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        (line,) = run_main(monkeypatch, capsys, module_folder, "--port", port)
    assert f"127.0.0.1:{port}, address already in use" in line


def test_what_is_no_module_is_one_line(tmp_path, monkeypatch, capsys):
    (line,) = run_main(monkeypatch, capsys, tmp_path, "--port", 0)
    assert line.startswith("ctxattr: `directory` must be a module")


def test_an_open_address_is_warned_of(tmp_path, monkeypatch, capsys):
    warning, _ = run_main(monkeypatch, capsys, tmp_path, "--port", 0, "--host", "0.0.0.0")
    assert warning.startswith("warning: 0.0.0.0 can be reached from elsewhere")


def test_missing_packages_name_the_extra(tmp_path, monkeypatch, capsys):
    real = cli.serve.importlib.util.find_spec

    def find(name, *rest):
        return None if name == "uvicorn" else real(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find)
    (line,) = run_main(monkeypatch, capsys, tmp_path)
    assert "pip install 'keras_ctxattr[web]'" in line and "no uvicorn" in line


def test_addresses():
    assert is_loopback("::1") and is_loopback("127.8.0.1")
    assert not is_loopback("192.168.0.1") and not is_loopback("example.org")
    with listen("localhost", 0) as opened:
        assert address_of(opened).startswith("http://")
    if socket.has_ipv6:
        try:
            opened = listen("::1", 0)
        except ValueError:
            pytest.skip("no IPv6 here")
        with opened:
            assert address_of(opened).startswith("http://[::1]:")
