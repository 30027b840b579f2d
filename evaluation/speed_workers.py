"""Context prediction by two workers on two cores beside one worker on one, each pinned to its core.

- `scale_training`: photographs per second of two workers that share every batch; the baseline is
  twice those of one worker with half the batch, so that the ratio is the efficiency.

Every worker is a process of its own with one thread of TensorFlow for its work; the time is that of
training steps, without start, evaluation and checkpoints.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it starts TensorFlow, and workers must be told of each other before
    from evaluation.speed_context import Measurements

_SECONDS = 300  # that a process may take
_HELD_OUT = 0.02  # few photographs: evaluation is not what is timed
_EVERY = 20  # steps between two rows of metrics; the first row is of a start, and left out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What to measure.

    Each worker takes four photographs a step.

    Attributes:
        images: JPEG photographs: folders or archives.
        rounds: alternations of both sides.
        steps: training steps, a multiple of 20 and at least 40.
        patches: patches of a worker's share of a step.
        num_features: width of the network.
    """

    images: Sequence[str]
    rounds: int = 2
    steps: int = 60
    patches: int = 96
    num_features: int = 256


def measure(workload: Workload) -> Measurements:
    """Gives `scale_training`.

    Raises:
        ValueError: if there are fewer than two cores, or a worker fails.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise ValueError(f"There must be two cores to compare workers. Received: {len(cores)}")
    one, two = [], []
    for _ in range(workload.rounds):
        one.append(2 * _train(workload, cores[:1]))
        two.append(_train(workload, cores))
    value, baseline = statistics.median(two), statistics.median(one)
    return {"scale_training": {"value": value, "baseline": baseline, "ratio": value / baseline}}


def _train(workload: Workload, cores: Sequence[int]) -> float:
    """Gives photographs per second of one worker a core."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        cluster = [f"localhost:{port}" for port in _free_ports(len(cores))]
        processes = []
        for worker, core in enumerate(cores):
            task = {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": worker}}
            told = {**dataclasses.asdict(workload), "run": run}
            environment = {
                **os.environ,
                "TF_CONFIG": json.dumps(task),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "evaluation.speed_workers", json.dumps(told)],
                    env=environment,
                    # Before it starts: threads stay where the first of them was.
                    preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return _wait(processes)


def _wait(processes: Sequence[subprocess.Popen[str]]) -> float:
    """Gives what the first process has printed; none is left behind."""
    try:
        said = [process.communicate(timeout=_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, said, strict=True):
        if process.returncode:
            words = error.strip().splitlines()[-1:]
            raise ValueError(f"Every worker must finish. Received: {' '.join(words)}")
    return float(said[0][0].split()[-1])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _work(told: dict) -> float:
    """Trains as one of the workers, and gives the photographs per second of all."""
    from keras_ctxattr.context.recipe import ContextRecipe
    from keras_ctxattr.context.training import train_context
    from keras_ctxattr.data.grids import GridConfig
    from keras_ctxattr.runs import Run
    from keras_ctxattr.runs.distribution import open_devices

    devices = open_devices("multiworker", deadline_minutes=_SECONDS / 60)
    count = devices.num_workers
    grids = GridConfig(
        images_per_batch=4 * count,
        patches_per_batch=told["patches"] * count,
        pairs_per_batch=4 * told["patches"] * count,
        num_groups=count,
    )
    recipe = ContextRecipe(
        backbone="compact",
        backbone_options={"num_features": told["num_features"]},
        hidden_units=told["num_features"],
        grids=grids,
        dtype_policy="float32",
        evaluate_every=_EVERY,
    )
    train_context(
        told["images"],
        told["run"],
        recipe,
        steps=told["steps"],
        held_out=_HELD_OUT,
        devices=devices,
    )
    rows = Run.read(told["run"]).metrics.rows()
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    return (rows[-1]["step"] - rows[0]["step"]) * grids.images_per_batch / seconds


if __name__ == "__main__":
    print(_work(json.loads(sys.argv[1])))
