"""Who does the work: how many workers, of which engine, on which cores."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, Protocol

ENGINES = ("local", "ray")

Note = Callable[[int], None]
"""Told how much of a unit is done; a worker that tells nothing for long is taken for lost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seat:
    """What one worker computes with.

    Attributes:
        num_threads: Threads of one computation. Sums are split among them, so the last bits of a
            result may depend on this number, and on nothing else here.
        num_parallel: Computations that may go on at a time, at least 1.
        cores: Cores it is kept to; None where it may use any.
    """

    num_threads: int = 1
    num_parallel: int = 1
    cores: tuple[int, ...] | None = None


class Job(Protocol):
    """What workers do: sent to each of them by pickle, and loaded there once."""

    def load(self, seat: Seat) -> Callable[[Any, Note], Any]:
        """Gives the function of a unit and a `Note` that is called for every unit."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work.

    Attributes:
        engine: `"local"` for processes of this machine, `"ray"` for actors.
        num_workers: How many, at least 1.
        num_threads: Threads of one computation, at least 1. Not divided among the workers: results
            may depend on it, and so they do not depend on the number of workers.
        pin: Whether each is kept to cores of its own, of those that this process may use: worker i
            of n takes every n-th from the i-th on. Not on a cluster.
        address: Ray cluster to use; None starts Ray on this machine, and stops it at the end.
        tries: Workers that a unit may lose before the job is given up.
        start_seconds: In which a worker must have loaded the job.
        silent_seconds: After which a worker that told nothing is ended and replaced.

    Raises:
        ValueError: If a value is impossible, or values contradict each other.

    Example:
        >>> Workers(num_workers=2).seat(1).num_threads
        1
    """

    engine: str = "local"
    num_workers: int = 1
    num_threads: int = 1
    pin: bool = False
    address: str | None = None
    tries: int = 3
    start_seconds: float = 300.0
    silent_seconds: float = 900.0

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.engine not in ENGINES:
            raise ValueError(f"`engine` must be {' or '.join(ENGINES)}. Received: {self.engine!r}")
        if min(self.num_workers, self.num_threads, self.tries) < 1:
            raise ValueError(
                "`num_workers`, `num_threads` and `tries` must be at least 1. Received: "
                f"{self.num_workers}, {self.num_threads} and {self.tries}"
            )
        if min(self.start_seconds, self.silent_seconds) <= 0:
            raise ValueError(
                "`start_seconds` and `silent_seconds` must be above 0. Received: "
                f"{self.start_seconds} and {self.silent_seconds}"
            )
        if self.address is not None and self.engine != "ray":
            raise ValueError(
                "`address` is that of a Ray cluster; set the engine to ray, or leave it out. "
                f"Received: address={self.address!r}, engine={self.engine!r}"
            )
        if self.pin and self.address is not None:
            raise ValueError(
                "`pin` is for workers of this machine; on a cluster, leave it out. "
                f"Received: address={self.address!r}"
            )

    def num_cores(self) -> int:
        """Gives the cores that a worker counts on: its share of this machine's, 1 on a cluster."""
        if self.address is not None:
            return 1
        return max(1, len(usable_cores()) // self.num_workers)

    def seat(self, worker: int) -> Seat:
        """Gives what a worker computes with; where cores are too few, some share one."""
        cores = usable_cores()
        own = tuple(cores[worker % len(cores) :: self.num_workers]) if self.pin else None
        return Seat(
            num_threads=self.num_threads,
            num_parallel=1 + self.num_cores(),  # while one waits for its file, all cores have work
            cores=own,
        )


def usable_cores() -> list[int]:
    """Gives the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
