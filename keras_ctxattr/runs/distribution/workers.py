"""Several processes that train one model: one writes, all go on from the same step."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_ctxattr.runs.checkpoints import Checkpoint, metrics_of
from keras_ctxattr.runs.distribution.deadline import Deadline, Heartbeat
from keras_ctxattr.runs.distribution.devices import Devices
from keras_ctxattr.runs.folder import Run
from keras_ctxattr.runs.identity import RunError
from keras_ctxattr.runs.writing import json_types

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class WorkersError(RunError):
    """The workers of a training are not all there, or not at one. One line, with what to do."""


class FollowedRun(Run):
    """The run folder as workers see it that do not write: they read it and change nothing."""

    def commit(self) -> None:
        """Does nothing: the first worker does."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Does nothing: the first worker does."""

    def save_checkpoint(
        self, model: Any, step: int, state: Mapping[str, Any] | None = None, *, keep: int = 2
    ) -> Path:
        """Takes part in the reading of metrics, which are sums over all workers."""
        for variable in metrics_of(model)["metrics"]:
            variable.numpy()
        return self.path


@contextlib.contextmanager
def open_together(
    devices: Devices,
    path: str | Path,
    config: Mapping[str, Any],
    *,
    kind: str,
    extendable: Iterable[str] = (),
    prepare: Callable[[Run], None] = lambda run: None,
) -> Iterator[Run]:
    """Opens a run folder: in the first worker as `Run.open` does, in the others to be read.

    Args:
        devices: Those that train.
        path: The folder, which all workers see.
        config: As for `Run.open`, the same in all workers.
        kind: As for `Run.open`.
        extendable: As for `Run.open`.
        prepare: What the first worker does to an unfinished run before the others look at it.

    Raises:
        RunError: As `Run.open` does.
        WorkersError: The workers were given different commands, or do not see one folder.
    """
    if not devices.leads:
        _check_commands(devices, config)
        yield FollowedRun.read(path, kind=kind)
        return
    with Run.open(path, config, kind=kind, extendable=extendable) as run:
        if not run.finished:
            prepare(run)
            if devices.num_workers > 1:
                # What it took long to prepare stays, though another worker never comes.
                run.commit()
        _check_commands(devices, config)
        yield run


def restore_together(devices: Devices, run: Run, model: Any) -> Checkpoint | None:
    """Puts the newest whole checkpoint into the model of every worker, see `Run.restore`.

    Raises:
        WorkersError: The workers found different checkpoints.
    """
    if devices.num_workers > 1:  # before the variables, which all workers must make alike
        newest = run.latest_checkpoint()
        _check_steps(devices, run, newest.step if newest else 0)
    with devices.scope():  # the optimizer's variables are made now
        resumed = run.restore(model)
        if devices.strategy is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
    _check_steps(devices, run, resumed.step if resumed else 0)  # one may have been damaged
    return resumed


def _check_steps(devices: Devices, run: Run, step: int) -> None:
    lowest, highest = agree(devices, step)
    if lowest != highest:
        raise WorkersError(
            "All workers must see the same run folder, on a disk that they share. Received: "
            f"{run.path}, whose last checkpoint is of step {lowest} for one and {highest} for "
            "another"
        )


def agree(devices: Devices, number: int) -> tuple[int, int]:
    """Gives (lowest, highest) of a number over all workers; each waits for all others."""
    strategy = devices.strategy
    if strategy is None or devices.num_workers == 1:
        return number, number

    @tf.function
    def gather() -> Any:
        def own() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_gather(tf.constant([number], tf.int64), axis=0)

        return strategy.experimental_local_results(strategy.run(own))[0]

    waiting = f"waited {devices.deadline_minutes:g} minutes for the others to come this far"
    with Deadline(60 * devices.deadline_minutes, waiting):
        found = gather().numpy()
    return int(found.min()), int(found.max())


def announce(devices: Devices, number: int = -1) -> int:
    """Gives the number that the first worker says; the others wait until it does.

    Args:
        devices: Those that train.
        number: What the first worker has to say, at least 0; not looked at from the others.
    """
    return agree(devices, number if devices.leads else -1)[1]


def _check_commands(devices: Devices, config: Mapping[str, Any]) -> None:
    text = json.dumps(json_types(dict(config)), sort_keys=True)
    lowest, highest = agree(devices, zlib.crc32(text.encode()))
    if lowest != highest:
        raise WorkersError(
            "All workers must be given the same command: the same images, run, recipe, steps and "
            f"seed. Received: another one by at least one of {devices.num_workers} workers"
        )


@contextlib.contextmanager
def together(devices: Devices) -> Iterator[Heartbeat]:
    """Ends a training in which a worker is gone, or answers no more, with one line.

    Gives a callback for `fit` and `evaluate`, which tells that steps are taken.

    Raises:
        WorkersError: A worker is gone.
    """
    if devices.num_workers == 1:
        yield Heartbeat()
        return
    waiting = f"took no step for {devices.deadline_minutes:g} minutes"
    with Deadline(60 * devices.deadline_minutes, waiting) as deadline:
        deadline.suspend()
        try:
            yield Heartbeat(deadline)
        except _LOST as error:
            raise WorkersError(
                "All workers must stay until the training ends; give the same command on all of "
                "them again, it goes on from the last checkpoint. Received: "
                f"{_first_words(error.message)}"
            ) from error


def _first_words(message: str) -> str:
    """Gives what TensorFlow says first, without a headline and the name of its function."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if not line.endswith("error:")]
    return (told or ["no word of it"])[0].rpartition("}} ")[2][:200]
