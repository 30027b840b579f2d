"""Batch jobs: two workers on two cores, beside one on one core.

- `jobs_local`, `jobs_ray`: images per second of two workers that write shards of codes and
  vectors, each kept to a core of its own with one thread of TensorFlow, over twice those of one
  worker on one core. Their start is left out.
- `jobs_local_start`, `jobs_ray_start`: seconds until two workers have loaded the module; with Ray,
  Ray's own start comes to that.
- `jobs_bytes`: bytes on the disk for each image, codes and vectors and names.

The module is that of `ctxattr learn` with random weights: the compact network, 64 bits. The figures
of Ray are left out where it is not installed.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

from evaluation.speed_context import Measurements
from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from keras_ctxattr.jobs import ENGINES, Pool, Workers, open_pool
from keras_ctxattr.jobs.rays import ray_session
from keras_ctxattr.search.encoding.plan import Plan, list_collection
from keras_ctxattr.search.encoding.shard import Layout
from keras_ctxattr.search.encoding.worker import EncodeJob

_CORES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is described.

    Attributes:
        images: photographs: folders or archives.
        shard_images: of a shard; small, so that both workers end at nearly the same time.
        rounds: alternations of the sides.
        seed: of the weights.
    """

    images: Sequence[str]
    shard_images: int = 10
    rounds: int = 5
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    keras.utils.set_random_seed(workload.seed)
    cores = sorted(os.sched_getaffinity(0))[:_CORES]
    if len(cores) < _CORES:
        raise ValueError("Two workers are timed on two cores. Received: one core")
    plan = Plan(list_collection(workload.images), workload.shard_images)
    if len(plan) < 2 * _CORES:
        raise ValueError(
            f"Workers are timed on more than {2 * workload.shard_images} photographs. "
            f"Received: {len(plan.entries)}"
        )
    figures: Measurements = {}
    with tempfile.TemporaryDirectory() as name, _kept_to(cores):
        place = Path(name) / "table"
        module = export_module(
            AttributeHasher(compact(), num_attributes=64), Path(name) / "module", unit="image"
        )
        layout = Layout(
            num_attributes=64, num_features=compact().output_shape[-1], keep_vectors=True
        )
        job = EncodeJob(module=str(module), place=str(place), layout=layout)
        for engine in ENGINES:
            if engine == "local" or importlib.util.find_spec("ray"):
                figures |= _measure_engine(engine, job, plan, workload, cores)
        num_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        figures["jobs_bytes"] = {"value": num_bytes / len(plan.entries)}
    return figures


def _measure_engine(
    engine: str, job: EncodeJob, plan: Plan, workload: Workload, cores: Sequence[int]
) -> Measurements:
    two = Workers(engine=engine, num_workers=_CORES, pin=True)
    with contextlib.ExitStack() as stack:
        began = time.perf_counter()
        if engine == "ray":  # with room for three actors
            stack.enter_context(ray_session(dataclasses.replace(two, num_workers=_CORES + 1)))
        pools = {"two": stack.enter_context(open_pool(job, two))}
        pools["two"].start()
        start = time.perf_counter() - began
        with _kept_to(cores[:1]):  # the cores that a worker may be given
            one = dataclasses.replace(two, num_workers=1)
            pools["one"] = stack.enter_context(open_pool(job, one))
            pools["one"].start()
        for pool in pools.values():
            _time_shards(pool, plan, job)
        seconds: dict[str, list[float]] = {side: [] for side in pools}
        for _, (side, pool) in itertools.product(range(workload.rounds), pools.items()):
            seconds[side].append(_time_shards(pool, plan, job))
    rates = {side: len(plan.entries) / float(np.median(times)) for side, times in seconds.items()}
    ideal = _CORES * rates["one"]
    return {
        f"jobs_{engine}": {
            "value": rates["two"],
            "baseline": ideal,
            "ratio": rates["two"] / ideal,
        },
        f"jobs_{engine}_start": {"value": start},
    }


def _time_shards(pool: Pool, plan: Plan, job: EncodeJob) -> float:
    """Gives the seconds in which all shards are written anew."""
    shutil.rmtree(job.place, ignore_errors=True)
    units = [plan.unit(shard) for shard in range(len(plan))]
    began = time.perf_counter()
    with ThreadPoolExecutor(pool.num_workers) as threads:
        list(threads.map(lambda unit: pool.call(unit, unit.name), units))
    return time.perf_counter() - began


@contextlib.contextmanager
def _kept_to(cores: Sequence[int]) -> Iterator[None]:
    """Keeps this thread, and what it starts, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
