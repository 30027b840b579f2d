"""How far training is: steps, seconds, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint


class StepCallback(keras.callbacks.Callback):
    """Counts training steps across epochs, calls of `fit`, and resumes.

    Args:
        resumed: The checkpoint that training goes on from; None at the start.

    Attributes:
        step: Training steps done so far.
        epoch_step: Steps that the running metrics of this epoch cover.
    """

    def __init__(self, *, resumed: Checkpoint | None = None) -> None:
        super().__init__()
        self.step = resumed.step if resumed is not None else 0
        self.epoch_step = 0
        self._covered = int(resumed.state.get("epoch_step", 0)) if resumed is not None else 0
        self._epoch_start = self.step

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts counting the epoch; the first one after a resume may be half done."""
        self._epoch_start = self.step
        self.epoch_step = self._covered

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts; `batch` also covers `steps_per_execution` above 1."""
        self.step = self._epoch_start + batch + 1
        self.epoch_step = self._covered + batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets the epoch: the metrics start afresh."""
        self._covered = self.epoch_step = 0


class TimeLimit(keras.callbacks.Callback):
    """Stops training once it has *trained* for so long; also the clock of a run.

    Only the training steps count, with the waiting for their input: neither evaluation nor
    checkpoints nor pictures, if this callback is the last in the list.

    Args:
        minutes: Training time of the whole run, over 0; None only measures.
        already_spent_seconds: Training time before this process, from the checkpoint.

    Attributes:
        elapsed_seconds: Training time so far, across resumes.

    Raises:
        ValueError: `minutes` is not positive.
    """

    def __init__(self, minutes: float | None = None, already_spent_seconds: float = 0) -> None:
        super().__init__()
        if minutes is not None and not minutes > 0:
            raise ValueError(f"`minutes` must be over 0, or None for no limit. Received: {minutes}")
        self.limit_seconds = None if minutes is None else 60.0 * minutes
        self.elapsed_seconds = float(already_spent_seconds)
        self._began = 0.0

    @property
    def reached(self) -> bool:
        """Whether the time is over. Ask before `fit`, which takes one step at least."""
        return self.limit_seconds is not None and self.elapsed_seconds >= self.limit_seconds

    @property
    def fraction(self) -> float:
        """Share of the time that is spent, 0 to 1; 0 without a limit."""
        if self.limit_seconds is None:
            return 0.0
        return min(1.0, self.elapsed_seconds / self.limit_seconds)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops the clock, and training if the time is over."""
        self.elapsed_seconds += time.perf_counter() - self._began
        if self.reached:
            self.model.stop_training = True


class ProgressSchedule(StepCallback):
    """Sets the learning rate before each batch from the share of the budget that is spent.

    Plain Python arithmetic on the step number, so that a run by steps is reproducible. With
    `steps_per_execution` above 1 it is set once per execution. The optimiser must be compiled with
    a number as learning rate, not with a schedule (Keras says so).

    Args:
        schedule: Learning rate from the share of the budget spent, 0 to 1.
        progress: That share from the number of steps done; values outside 0 to 1 are clipped.
        resumed: The checkpoint that training goes on from.

    Example:
        >>> clock = TimeLimit(minutes=15)
        >>> by_steps = ProgressSchedule(lambda done: 0.1 * (1 - done), lambda step: step / 1000)
        >>> by_time = ProgressSchedule(lambda done: 0.1 * (1 - done), lambda step: clock.fraction)
    """

    def __init__(
        self,
        schedule: Callable[[float], float],
        progress: Callable[[int], float],
        *,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        self.schedule = schedule
        self.progress = progress

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the learning rate of this step."""
        fraction = min(1.0, max(0.0, float(self.progress(self.step))))
        self.model.optimizer.learning_rate = float(self.schedule(fraction))


def fit_segments(
    step: int, epoch_step: int, epoch_size: int, total: int
) -> Iterator[tuple[int, int]]:
    """Gives (steps per epoch, epochs) for every call of `fit`: rest of an epoch, whole ones, rest.

    Args:
        step: steps done.
        epoch_step: how many of them belong to the epoch that was interrupted.
        epoch_size: steps between evaluations.
        total: steps of the whole run.
    """
    if epoch_step and step < total:
        rest = min(epoch_size - epoch_step, total - step)
        yield rest, 1
        step += rest
    if step + epoch_size <= total:
        whole = (total - step) // epoch_size
        yield epoch_size, whole
        step += whole * epoch_size
    if step < total:
        yield total - step, 1
