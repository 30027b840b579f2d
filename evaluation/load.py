"""Many clients at a time: whether the model server loses any, how long they wait, its rate.

    python -m evaluation.load --module MODULE --images PHOTOS --out results/load

Starts `ctxattr serve` in a process of its own. A hundred clients send photographs for a minute,
each the next one when its answer has come, and compare the codes with the module's own. Before and
after, the module alone is called with one photograph after the other; `ratio` is images per second
of the server over those, on the same machine, which also runs the clients. Writes results.json. A
request is lost if it has no answer, another status than 200, or other codes. Two minutes.
"""

import contextlib
import dataclasses
import http.client
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.checks import check_counts, check_positive, check_seed
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    write_results,
)
from keras_ctxattr.data.decode import read_encoded
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.export import read_module
from training.flags import parse_flags, run_script

_ALONE_SECONDS = 10.0  # of the module alone, before and after
_TIMEOUT = 120.0  # seconds that a client waits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to serve, and to how many.

    Attributes:
        module: folder of a module with attributes.
        images: photographs that are sent: folder or archive, may be repeated.
        out: folder of results.json.
        clients: that send at a time.
        seconds: for which they send.
        num_images: photographs of `images` that are sent, drawn with `seed`.
        seed: of that draw.
    """

    module: Path
    images: list[str]
    out: Path
    clients: int = 100
    seconds: float = 60.0
    num_images: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "clients", "num_images")
        check_positive(self, "seconds")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Serves, sends, and gives the figures."""
    if "attributes" not in read_module(config.module):
        raise ValueError(
            f"`--module` must have attributes, whose codes are compared. Received: {config.module}"
        )
    out = check_folder(config.out)
    manifest = collect(config.images)
    files = _draw_files(manifest, config)
    module = tf.saved_model.load(str(config.module))
    codes = [module.encode_bytes(tf.constant([file])).numpy()[0] for file in files]
    with _served(config.module) as (host, path):
        rates = [_rate_alone(module, files)]
        clients = [_Client(host, path, files, codes, first) for first in range(config.clients)]
        seconds = _run_clients(clients, config.seconds)
        rates.append(_rate_alone(module, files))
    return write_results(
        out,
        _figures(clients, seconds, float(np.mean(rates))),
        script="evaluation.load",
        config=config,
        protocol=(
            f"{config.clients} connections on one machine, one photograph a request, binary "
            "tensors; the module alone: describe_bytes of one file at a time, before and after"
        ),
        images=describe_images(manifest, f"{len(files)} of them"),
    )


def _figures(clients: Sequence["_Client"], seconds: float, alone: float) -> dict[str, Any]:
    times = np.array([one for client in clients for one in client.times])
    if not len(times):
        raise RuntimeError("The server must answer. " + "; ".join(clients[0].losses[:1]))
    losses = [reason for client in clients for reason in client.losses]
    served = len(times) / seconds
    return {
        "answered": len(times),
        "lost": len(losses),
        "reasons": sorted(set(losses))[:5],
        "latency_p50_seconds": float(np.percentile(times, 50)),
        "latency_p99_seconds": float(np.percentile(times, 99)),
        "images_per_second": served,
        "images_per_second_alone": alone,
        "ratio": served / alone,
        "fewest_of_a_client": min(len(client.times) for client in clients),
    }


def _draw_files(manifest: Manifest, config: Config) -> list[bytes]:
    """Gives the contents of some photographs."""
    rows = np.random.default_rng(config.seed).permutation(len(manifest))[: config.num_images]
    return [
        read_encoded(
            manifest.paths[row], manifest.offsets[row], manifest.lengths[row], manifest.totals[row]
        ).numpy()
        for row in rows
    ]


@contextlib.contextmanager
def _served(module: Path) -> Iterator[tuple[str, str]]:
    """Serves a module by the command; gives host and port, and the model's path."""
    command = [sys.executable, "-m", "keras_ctxattr.cli", "serve", str(module), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise ValueError("The module must be one that `ctxattr serve` takes; see above.")
        host, path = line.split()[1].removeprefix("http://").split("/", 1)
        yield host, f"/{path}/infer"
    finally:
        process.terminate()
        process.communicate(timeout=_TIMEOUT)


def _rate_alone(module: Any, files: Sequence[bytes]) -> float:
    """Gives the images per second of the module called with one file after the other."""
    began = time.perf_counter()
    done = 0
    while (seconds := time.perf_counter() - began) < _ALONE_SECONDS or not done:
        module.describe_bytes(tf.constant([files[done % len(files)]]))["codes"].numpy()
        done += 1
    return done / seconds


def _run_clients(clients: Sequence["_Client"], seconds: float) -> float:
    """Lets all send until the time is over; gives the seconds until the last answer."""
    began = time.perf_counter()
    threads = [
        threading.Thread(target=client.run, args=(began + seconds,), daemon=True)
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


class _Client:
    """Sends one photograph after the other, and keeps the times and what went wrong."""

    def __init__(
        self,
        host: str,
        path: str,
        files: Sequence[bytes],
        codes: Sequence[np.ndarray],
        first: int,
    ) -> None:
        self.host, self.path, self.files, self.codes, self.next = host, path, files, codes, first
        self.times: list[float] = []
        self.losses: list[str] = []

    def run(self, end: float) -> None:
        """Sends until the time is over, at least once."""
        connection = http.client.HTTPConnection(self.host, timeout=_TIMEOUT)
        while not (self.times or self.losses) or time.perf_counter() < end:
            began = time.perf_counter()
            try:
                self._send(connection)
                self.times.append(time.perf_counter() - began)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.losses.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()

    def _send(self, connection: http.client.HTTPConnection) -> None:
        number = self.next % len(self.files)
        self.next += 1
        body, headers = _request_of(self.files[number])
        connection.request("POST", self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        codes = next(one for one in json.loads(content)["outputs"] if one["name"] == "codes")
        if codes["data"] != self.codes[number].tolist():
            raise ValueError("other codes than the module's")


def _request_of(file: bytes) -> tuple[bytes, dict[str, str]]:
    """Gives body and headers of a request with a binary tensor."""
    packed = struct.pack("<I", len(file)) + file
    tensor = {
        "name": "encoded",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(packed)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + packed, headers


def _report(config: Config) -> None:
    results = main(config)
    names = (
        *("answered", "lost", "latency_p50_seconds", "latency_p99_seconds"),
        *("images_per_second", "images_per_second_alone", "ratio"),
    )
    print_table(f"load -> {config.out}", {name: results[name] for name in names})


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
