"""Workers that are Ray actors, on this machine or on a cluster.

Actors and not a Ray data set: a unit's result stays in the worker (a whole shard) or is one small
value, so nothing streams between stages; and every wait here has a deadline.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any

from keras_ctxattr.jobs.hosting import Host
from keras_ctxattr.jobs.local import WorkerLostError
from keras_ctxattr.jobs.workers import Job, Note, Workers

_KNOCK_SECONDS = 10.0
_STORE_BYTES = 128 * 2**20  # of Ray's object store: units and results are small
_POLL_SECONDS = 0.5
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def import_ray() -> Any:
    """Gives Ray.

    Raises:
        MissingPackageError: If it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings(action="ignore"):
            import ray
    except ImportError as error:
        from keras_ctxattr.export.onnx_file import MissingPackageError

        raise MissingPackageError(
            "The engine ray needs a package of its own; pip install 'keras_ctxattr[scale]'. "
            f"Received: no ray ({error})"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raises an `OSError` where nobody listens: Ray would go on asking for five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _check_room(ray: Any, workers: Workers) -> None:
    """Refuses actors that would wait for a processor for ever."""
    needed = workers.num_workers * workers.num_cores()
    there = int(ray.cluster_resources().get("CPU", 0))
    if needed > there:
        raise ValueError(
            "The cluster must have a processor for every thread of every worker; give fewer "
            f"`--workers`, or add machines first. Received: {workers.num_workers} workers that "
            f"take {needed} processors, of {there}"
        )


@contextlib.contextmanager
def ray_session(workers: Workers) -> Iterator[Any]:
    """Connects to a cluster or starts Ray here, without its dashboard; at the end it is let go.

    Where this process is connected already, that connection is used and left.

    Raises:
        MissingPackageError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address, or Ray does not start.
        ValueError: If the cluster has fewer processors than the workers take.
    """
    ray = import_ray()
    if ray.is_initialized():
        _check_room(ray, workers)
        yield ray
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if workers.address is not None:
            _knock(workers.address)
            ray.init(address=workers.address, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=workers.num_workers * workers.num_cores(),
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                **quiet,
            )
    except Exception as error:  # Ray raises many kinds
        ray.shutdown()
        where = "on this machine" if workers.address is None else f"at {workers.address}"
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(
            "Ray must be running at the address, or start on this machine; `ray status` says "
            f"whether it is. Received: none {where}: {reason}"
        ) from error
    try:
        if workers.address is not None:
            _check_room(ray, workers)
        yield ray
    finally:
        ray.shutdown()


class RayWorker:
    """An actor that has loaded a job; see `ProcessWorker`.

    Ray's own restarts are off: the pool counts, and replaces it. Two threads, so that it can tell
    how far it is while it works.

    Args:
        job: What it does.
        workers: The settings.
        number: Which of the workers it is, from 0.

    Raises:
        WorkerLostError: If it dies or is too slow before it has loaded the job.
    """

    def __init__(self, job: Job, workers: Workers, number: int) -> None:
        self._ray = import_ray()
        options = {"num_cpus": workers.num_cores(), "max_restarts": 0, "max_concurrency": 2}
        kind = self._ray.remote(**options)(Host)
        self._actor = kind.remote()
        self._limit = workers.silent_seconds
        try:
            started = self._actor.start.remote(job, workers.seat(number))
            self.pid: int = self._ray.get(started, timeout=workers.start_seconds).unwrap()
        except self._ray.exceptions.RayError as error:
            raise self._lost(error, workers.start_seconds) from error
        except BaseException:
            self.close()
            raise

    def ask(self, unit: Any, note: Note | None) -> Any:
        """Has a unit done and gives its result.

        Raises:
            WorkerLostError: If the actor died or fell silent; it cannot be used any more.
        """
        try:
            running = self._actor.run.remote(unit)
            last, done = time.monotonic(), 0
            while not self._ray.wait([running], timeout=_POLL_SECONDS)[0]:
                told = self._ray.get(self._actor.done.remote(), timeout=self._limit)
                if told != done:
                    last, done = time.monotonic(), told
                    if note is not None:
                        note(done)
                elif time.monotonic() - last > self._limit:
                    raise self._ray.exceptions.GetTimeoutError
            outcome = self._ray.get(running, timeout=self._limit)
        except self._ray.exceptions.RayError as error:
            raise self._lost(error, self._limit) from error
        except BaseException:
            self.kill()
            raise
        return outcome.unwrap()

    def kill(self, reason: str = "") -> None:
        """Ends it at once."""
        with contextlib.suppress(Exception):  # gone already, or Ray is
            self._ray.kill(self._actor)

    def close(self) -> None:
        """Ends it."""
        self.kill()

    def _lost(self, error: Exception, limit: float) -> WorkerLostError:
        self.kill()
        if isinstance(error, self._ray.exceptions.GetTimeoutError):
            return WorkerLostError(f"a Ray actor was silent for {limit:g} s")
        told = next((line for line in str(error).splitlines() if line.strip()), "")
        return WorkerLostError(f"a Ray actor died: {type(error).__name__} {told.strip()}"[:200])
