"""A real server of the protocol, and a standard client of it, beside ours.

Both live in an environment of their own, which takes about two minutes to build.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_ctxattr.serving
from tests.data.encoding import encode, make_pixels
from tests.environments import find_environment

# The smaller package, where there is one: it halves the time to fetch it.
REQUIREMENTS = (
    "mlserver==1.7.1",
    "tensorflow-cpu==2.21.*; platform_machine == 'x86_64'",
    "tensorflow==2.21.*; platform_machine != 'x86_64'",
)
RUNTIME = Path(keras_ctxattr.serving.__file__).with_name("mlserver_runtime.py")
CLIENT = Path(__file__).with_name("use_server.py")
SECONDS = 120  # for a server to start, or to answer, on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.peer]


@pytest.fixture(scope="module")
def python():
    """Gives the interpreter of an environment with MLServer and not this package."""
    return find_environment("mlserver-1.7.1", REQUIREMENTS, ["3.11", "3.12"])


@pytest.fixture(scope="module")
def arrays(module, tmp_path_factory):
    """Gives the file with what is asked, and with what the module answers here."""
    images = np.random.default_rng(0).uniform(0, 1, (2, 40, 50, 3)).astype(np.float32)
    kinds = ("PNG", "JPEG", "WEBP")
    files = [encode(make_pixels(150, 200 + 10 * row), kind) for row, kind in enumerate(kinds)]
    found = {
        "files": module.describe_bytes(tf.constant(files)),
        "images": module.describe(images),
    }
    target = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    np.savez(
        target,
        images=images,
        files=np.frombuffer(b"".join(files), np.uint8),
        ends=np.cumsum([len(file) for file in files]),
        **{f"{kind}_{name}": values[name] for kind, values in found.items() for name in values},
    )
    return target


def run_client(python, port, *arguments):
    done = subprocess.run(
        [python, "-I", CLIENT, f"127.0.0.1:{port}", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.mark.parametrize("form", [[], ["--binary"]], ids=["json", "binary"])
def test_a_standard_client_gets_the_numbers_of_the_module_from_us(python, port, arrays, form):
    run_client(python, port, arrays, *form)


def free_ports(count):
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in opened]
    for one in opened:
        one.close()
    return ports


def write_model(folder, module_folder):
    """Writes what MLServer looks for; gives its port."""
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
    }
    model = {
        "name": "photos",
        "implementation": "mlserver_runtime.ModuleRuntime",
        "parameters": {"uri": "./module", "version": "1"},
    }
    shutil.copytree(module_folder, folder / "module")
    shutil.copy(RUNTIME, folder)
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return http


def wait_until_ready(port, process, log):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/photos/ready"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


def test_mlserver_answers_as_tensorflow_does_here(python, module_folder, arrays, tmp_path):
    folder, log = tmp_path / "model", tmp_path / "log"
    folder.mkdir()
    port = write_model(folder, module_folder)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [python.with_name("mlserver"), "start", folder],
            stdout=stream,
            stderr=stream,
            cwd=tmp_path,
            env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
        try:
            wait_until_ready(port, process, log)
            run_client(python, port, arrays)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
