"""The devices that train together, and how the input is divided among them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.runs.distribution.deadline import Deadline

DISTRIBUTIONS = ("none", "mirrored", "multiworker")

_TF_CONFIG = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_ENDLESS = tf.data.INFINITE_CARDINALITY


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Devices:
    """Devices that compute every step together.

    Attributes:
        strategy: of `tf.distribute`; None for the one device of an ordinary training.
        worker: which process this is, from 0; the first one writes.
        num_workers: how many processes there are.
        deadline_minutes: for how long to wait for the other processes, each time.
    """

    strategy: tf.distribute.Strategy | None = None
    worker: int = 0
    num_workers: int = 1
    deadline_minutes: float = 10.0

    @property
    def num_replicas(self) -> int:
        """Devices in all."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def leads(self) -> bool:
        """Whether this process writes what the training makes."""
        return self.worker == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """The context in which the model and its optimizer are made.

        Workers take their first values from the first of them, one variable after the other.
        """
        if self.strategy is None:
            yield
            return
        waiting = f"waited {self.deadline_minutes:g} minutes for the others' first weights"
        with self.waiting(waiting), self.strategy.scope():
            yield

    def waiting(self, what: str) -> contextlib.AbstractContextManager[Any]:
        """Gives the context of a wait for the other processes, which ends after the deadline.

        Args:
            what: as for `Deadline`.
        """
        if self.num_workers == 1:
            return contextlib.nullcontext()
        return Deadline(60 * self.deadline_minutes, what)

    def distribute(self, batches_of: Callable[[tuple[int, int]], tf.data.Dataset]) -> Any:
        """Gives the input of all devices.

        Args:
            batches_of: gives the batches of a device without end, from (which, of how many).
        """
        if self.strategy is None:
            return batches_of((0, 1))
        local = self._num_local
        shares = [(self.worker * local + number, self.num_replicas) for number in range(local)]
        return self._feed(lambda: [batches_of(share) for share in shares])

    def replicate(self, batches: tf.data.Dataset) -> Any:
        """Gives the same batches to every device, again and again: for what is not worth dividing.

        Args:
            batches: of one pass. Say how many they are to whoever takes them.
        """
        if self.strategy is None:
            return batches
        local = self._num_local
        endless = batches.repeat()
        if local > 1:
            endless = endless.flat_map(lambda *one: _repeat_one(one, local))
        return self._feed(lambda: [endless])

    @property
    def _num_local(self) -> int:
        return self.num_replicas // self.num_workers

    def _feed(self, shares: Callable[[], list[tf.data.Dataset]]) -> Any:
        """Gives the input whose elements go to the devices of this process in turn."""

        def of_worker(_: tf.distribute.InputContext) -> tf.data.Dataset:
            parts = shares()
            turns = tf.data.Dataset.range(len(parts)).repeat()
            whole = (
                parts[0] if len(parts) == 1 else tf.data.Dataset.choose_from_datasets(parts, turns)
            )
            # Where input may end, the strategy asks every device each time whether it has; that
            # takes longer, and fails in TensorFlow 2.21.
            return whole.apply(tf.data.experimental.assert_cardinality(_ENDLESS))

        assert self.strategy is not None
        return self.strategy.distribute_datasets_from_function(of_worker)

    def align(self, model: keras.Model, whole_batch: Iterable[keras.layers.Layer] = ()) -> None:
        """Makes weights the same on all devices, to the last bit, and random draws different.

        For what every worker has computed for itself before training. Draws are told apart by the
        number of the device, but those of layers that draw for the batch of all devices
        (`keras_ctxattr.layers.SynchronizedDropout`, `RandomTransformation`), which are the same.

        Args:
            model: made in `scope`, and restored where there is a checkpoint.
            whole_batch: such layers of it.
        """
        if self.strategy is None:
            return
        generators = [getattr(layer, "seed_generator", None) for layer in whole_batch]
        same = {id(one.state) for one in generators if one is not None}  # a rate of 0 needs none
        random = [v for v in model.variables if v.path.endswith("seed_generator_state")]
        chosen = {id(variable) for variable in random}
        weights = [v for v in model.variables if id(v) not in chosen]
        random = [variable for variable in random if id(variable) not in same]

        def copy_first() -> None:
            context = tf.distribute.get_replica_context()
            device = context.replica_id_in_sync_group
            # Those of the first device. A mean of equal numbers may be another by rounding.
            known = [tf.identity(variable.value) for variable in weights]
            own = [tf.where(device == 0, value, tf.zeros_like(value)) for value in known]
            values = context.all_reduce("SUM", own)
            for variable, value in zip(weights, values, strict=True):
                variable.assign(value)
            for variable in random:
                step = tf.cast(tf.stack([0, device * 2**20]), variable.dtype)
                variable.assign(variable.value + step)

        waiting = f"waited {self.deadline_minutes:g} minutes for the others to have their weights"
        with self.waiting(waiting):
            tf.function(lambda: self.strategy.run(copy_first))()

    def on_one(self, model: keras.Model) -> keras.Model:
        """Gives the trained model for one device, as it is exported: without a strategy, itself.

        Args:
            model: made in `scope`.
        """
        if self.strategy is None:
            return model
        copied = type(model).from_config(model.get_config())
        copied.set_weights(model.get_weights())
        return copied

    def checkpoints_due(self, minutes: float, steps: int) -> dict[str, Any]:
        """Gives `Checkpointer`'s `every_minutes` and `every_steps`.

        All workers take part in a checkpoint, and their clocks differ: they go by steps.
        """
        if self.num_workers > 1:
            return {"every_minutes": None, "every_steps": steps}
        return {"every_minutes": minutes}

    def check_budget(self, steps: int | None) -> None:
        """Refuses several workers a budget that they would measure differently."""
        if self.num_workers > 1 and steps is None:
            raise ValueError(
                "Several workers must be given `steps`: each has a clock of its own, and all must "
                f"stop after the same step. Received: {self.num_workers} workers and no steps"
            )

    def check_groups(self, num_groups: int) -> None:
        """Refuses batches that cannot be divided equally."""
        if num_groups % self.num_replicas:
            raise ValueError(
                "`num_groups` must be a multiple of the number of devices, so that each has as "
                f"many groups of a batch. Received: num_groups={num_groups}, "
                f"{self.num_replicas} devices"
            )


def _repeat_one(batch: tuple[Any, ...], count: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(batch[0] if len(batch) == 1 else batch).repeat(count)


def open_devices(distribute: str = "none", *, deadline_minutes: float = 10.0) -> Devices:
    """Opens the devices that a training is to use.

    - `none`: TensorFlow's first device.
    - `mirrored`: all GPUs of this machine; without one, all logical CPUs.
    - `multiworker`: those of several processes, one on each machine as a rule, which all give the
      same command. The variable TF_CONFIG says where they are and which of them this is.

    Args:
        distribute: one of these.
        deadline_minutes: for how long to wait for the other processes.

    Raises:
        ValueError: if `distribute` is unknown, or TF_CONFIG is missing or wrong.
    """
    if distribute not in DISTRIBUTIONS:
        raise ValueError(f"`distribute` must be one of {DISTRIBUTIONS}. Received: {distribute!r}")
    if distribute == "none":
        return Devices()
    if distribute == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        return Devices(strategy=tf.distribute.MirroredStrategy(names))
    worker, num_workers = _read_cluster()
    waiting = f"waited {deadline_minutes:g} minutes for all of {num_workers} workers to start"
    with Deadline(60 * deadline_minutes, waiting):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise ValueError(
                "The devices of several workers must be opened before TensorFlow computes "
                f"anything; call `open_devices` first. Received: {error}"
            ) from error
    return Devices(
        strategy=strategy,
        worker=worker,
        num_workers=num_workers,
        deadline_minutes=deadline_minutes,
    )


def _read_cluster() -> tuple[int, int]:
    """Gives (which worker this is, how many there are) of TF_CONFIG."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        task = config["task"]
        if task["type"] != "worker" or set(config["cluster"]) != {"worker"}:
            raise ValueError("other tasks than workers")
        index = int(task["index"])
        if not 0 <= index < len(workers):
            raise ValueError("an index past the workers")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "With `--distribute multiworker`, TF_CONFIG must name all workers and tell which of "
            f"them this is, such as {_TF_CONFIG}. Received: {text or 'none'} ({error})"
        ) from error
    return index, len(workers)
