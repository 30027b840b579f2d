"""Callbacks that write into the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ctxattr.pictures import show_patches, write_png
from keras_ctxattr.runs.callbacks import events
from keras_ctxattr.runs.callbacks.guards import HOW_TO_CHANGE, TrainingCollapsed
from keras_ctxattr.runs.callbacks.steps import StepCallback, TimeLimit

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint, Run


class Checkpointer(StepCallback):
    """Saves checkpoints between steps, and at the end of training.

    A checkpoint that falls due at the last step of an epoch waits for the epoch's end, so that the
    row of `metrics.csv` for that step is always older than the checkpoint: put `MetricsLog` before
    this callback. The state beside the variables holds `seconds` (training time), `epoch_step`
    (steps that the running metrics cover, 0 between epochs), and what `state` adds.

    A model whose weights, optimiser or loss are no longer finite numbers is not saved: training
    stops, and the last sound checkpoint stays the newest. The first step commits the run: until
    then, an error leaves the folder as if training had never been started.

    Args:
        run: The run folder, opened for training.
        clock: Measures the training time, so that a resume goes on counting.
        every_minutes: Wall-clock time between two checkpoints; None for never.
        every_steps: Steps between two checkpoints; None for never.
        keep: How many checkpoints remain.
        state: Gives what else to store, JSON types.
        resumed: The checkpoint that training goes on from; its running metrics are restored too,
            so that the rows of a killed and resumed run equal those of one that was not.

    Raises:
        TrainingCollapsed: During `fit`, where there is nothing sound to save.
    """

    def __init__(
        self,
        run: Run,
        clock: TimeLimit,
        *,
        every_minutes: float | None = 3.0,
        every_steps: int | None = None,
        keep: int = 2,
        state: Callable[[], Mapping[str, Any]] | None = None,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        self.run = run
        self.clock = clock
        self.every_seconds = None if every_minutes is None else 60.0 * every_minutes
        self.every_steps = every_steps
        self.keep = keep
        self.state = state
        self._half_epoch = resumed if self._covered else None
        self._saved_step = self.step if resumed is not None else -1
        self._saved_at = time.monotonic()
        self._loss = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the time to the first checkpoint."""
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes on with the running metrics of an epoch that was interrupted."""
        super().on_epoch_begin(epoch, logs)
        if self._half_epoch is not None:
            self._half_epoch.restore(self.model, metrics=True)
            self._half_epoch = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves what fell due in the steps before."""
        if self._is_due():
            self._save()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts; there is something to lose now."""
        super().on_train_batch_end(batch, logs)
        self._loss = (logs or {}).get("loss", 0.0)
        self.run.commit()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves what fell due at the epoch's last step."""
        super().on_epoch_end(epoch, logs)
        if self._is_due():
            self._save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Saves the result."""
        if self.step != self._saved_step:
            self._save()

    def _is_due(self) -> bool:
        if self.step <= max(0, self._saved_step):
            return False
        steps = self.step - max(0, self._saved_step)
        waited = time.monotonic() - self._saved_at
        by_steps = self.every_steps is not None and steps >= self.every_steps
        return by_steps or (self.every_seconds is not None and waited >= self.every_seconds)

    def _save(self) -> None:
        self._check_sound()
        state = {"seconds": self.clock.elapsed_seconds, "epoch_step": self.epoch_step}
        state |= dict(self.state()) if self.state is not None else {}
        self.run.save_checkpoint(self.model, self.step, state, keep=self.keep)
        self._saved_step = self.step
        self._saved_at = time.monotonic()

    def _check_sound(self) -> None:
        """Stops training where a checkpoint would hold what cannot be gone on from."""
        damage = f"the loss is {self._loss}" if not math.isfinite(self._loss) else ""
        damage = damage or _describe_damage(self.model)
        if damage:
            kept = (
                f"that of step {self._saved_step} is" if self._saved_step > 0 else "there is none"
            )
            raise TrainingCollapsed(
                f"Training stopped at step {self.step}, and no checkpoint was written "
                f"({kept}{' the last sound one' if self._saved_step > 0 else ' yet'}): {damage}; "
                f"lower `learning_rate`, or set `dtype_policy` to float32, {HOW_TO_CHANGE}."
            )


def _describe_damage(model: Any) -> str:
    """Names the first variable that holds something else than finite numbers; "" if none does."""
    for variable in [*model.variables, *model.optimizer.variables]:
        value = np.asarray(variable.numpy())
        if not np.isfinite(value).all():
            return f"{variable.path} is not finite"
    return ""


class MetricsLog(StepCallback):
    """Writes a row of `metrics.csv` and TensorBoard scalars at the end of each epoch.

    An epoch is what lies between two evaluations (`steps_per_epoch` of `fit`). The columns are
    `step`, `seconds` of training, `learning_rate`, and the logs. TensorBoard shows training and
    held-out curves in one plot: `logs/train` and `logs/held_out`, tagged alike.

    Args:
        run: The run folder, opened for training.
        clock: Measures the training time.
        tensorboard: Whether to write `logs/`.
        resumed: The checkpoint that training goes on from.
    """

    def __init__(
        self,
        run: Run,
        clock: TimeLimit,
        *,
        tensorboard: bool = True,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        self.run = run
        self.clock = clock
        self.tensorboard = tensorboard

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the row."""
        super().on_epoch_end(epoch, logs)
        values = {
            "learning_rate": float(np.asarray(self.model.optimizer.learning_rate)),
            **(logs or {}),
        }
        seconds = round(self.clock.elapsed_seconds, 3)
        self.run.metrics.append({"step": self.step, "seconds": seconds, **values})
        if self.tensorboard:
            self._write_scalars("train", lambda name: not name.startswith("val_"), values)
            self._write_scalars("held_out", lambda name: name.startswith("val_"), values)

    def _write_scalars(
        self, folder: str, belongs: Callable[[str], bool], values: Mapping[str, float]
    ) -> None:
        chosen = {name.removeprefix("val_"): v for name, v in values.items() if belongs(name)}
        if chosen:
            events.write_scalars(self.run.logs / folder, self.step, chosen)


class PatchPictures(StepCallback):
    """Writes a picture of what the network sees, to `pictures/` and to TensorBoard.

    Random layers draw for the picture and are then put back as they were, so that training does
    not depend on it.

    Args:
        run: The run folder, opened for training.
        batch: One training batch, as the model takes it.
        every: Steps between two pictures, at least 1; the first is made before the first step.
        num_patches: How many patches are shown.
        resumed: The checkpoint that training goes on from.

    Raises:
        ValueError: `every` is below 1.
    """

    def __init__(
        self,
        run: Run,
        batch: Any,
        *,
        every: int = 2000,
        num_patches: int = 48,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        if every < 1:
            raise ValueError(f"`every` must be at least 1 step. Received: {every}")
        self.run = run
        self.batch = batch
        self.every = every
        self.num_patches = num_patches
        self._next = -(-self.step // every) * every

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Makes the picture that fell due."""
        if self.step >= self._next:
            self._next = (self.step // self.every + 1) * self.every
            self._write(show_patches(self._processed(), columns=12))

    def _processed(self) -> np.ndarray:
        random = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]
        before = [np.array(variable.numpy()) for variable in random]
        patches = self.model.process_patches(self.batch, training=True)
        for variable, value in zip(random, before, strict=True):
            variable.assign(value)
        return np.asarray(patches[: self.num_patches], np.float32)

    def _write(self, picture: np.ndarray) -> None:
        write_png(self.run.place(f"pictures/patches-{self.step:08d}.png"), picture)
        events.write_image(self.run.logs / "train", self.step, "what the network sees", picture)
