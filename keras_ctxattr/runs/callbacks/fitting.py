"""Training by steps to the end of a budget, with everything that a run folder keeps."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_ctxattr.runs.callbacks.guards import CollapseGuard
from keras_ctxattr.runs.callbacks.progress import ProgressLine
from keras_ctxattr.runs.callbacks.records import Checkpointer, MetricsLog
from keras_ctxattr.runs.callbacks.steps import ProgressSchedule, TimeLimit, fit_segments
from keras_ctxattr.runs.distribution import Devices, contained

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint, Run


def cosine_to_zero(learning_rate: float) -> Callable[[float], float]:
    """Gives the schedule that follows half a cosine from `learning_rate` to 0."""
    return lambda progress: learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def fit_steps(
    model: keras.Model,
    batches_from: Callable[..., Any],
    run: Run,
    *,
    num_steps: int,
    epoch_size: int,
    rate_at: Callable[[float], float],
    checkpoint_minutes: float,
    resumed: Checkpoint | None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    state: Callable[[], Mapping[str, Any]] | None = None,
    devices: Devices | None = None,
) -> None:
    """Trains to the end of the budget, from the last checkpoint on.

    Training is logged, checkpointed and watched for collapse, with a line of progress on the error
    stream.

    Args:
        model: compiled; restored where there is a checkpoint.
        batches_from: gives the batches from a step on, without end; with `devices` those of
            `share`, (which, of how many) devices.
        run: opened for training.
        num_steps: steps of the whole run.
        epoch_size: steps over which metrics are means.
        rate_at: gives the learning rate at a share (0 to 1) of the steps, such as `cosine_to_zero`.
        checkpoint_minutes: time between checkpoints.
        resumed: the checkpoint; None at the start.
        callbacks: further ones, called first.
        state: gives what else a checkpoint stores, JSON types.
        devices: what the model was made for, in their `scope`; one device if None.

    Raises:
        TrainingCollapsed: if training failed for good.
    """
    devices = devices or Devices()
    step = resumed.step if resumed else 0
    epoch_step = resumed.state["epoch_step"] if resumed else 0
    clock = TimeLimit(already_spent_seconds=resumed.state["seconds"] if resumed else 0.0)
    telling = [
        MetricsLog(run, clock, resumed=resumed),
        ProgressLine(clock, num_steps=num_steps, resumed=resumed),
    ]
    due = devices.checkpoints_due(checkpoint_minutes, epoch_size)
    watching = [
        *callbacks,
        ProgressSchedule(rate_at, lambda done: done / num_steps, resumed=resumed),
        CollapseGuard(resumed=resumed),
        *(telling if devices.leads else []),
        Checkpointer(run, clock, state=state, resumed=resumed, **due),
        clock,
    ]
    if resumed and step < num_steps:
        print(f"Going on from step {step}.", file=sys.stderr, flush=True)
    with contained(model, devices.strategy):
        for num_epoch_steps, num_epochs in fit_segments(step, epoch_step, epoch_size, num_steps):
            model.fit(
                _feed(devices, batches_from, step),
                steps_per_epoch=num_epoch_steps,
                epochs=num_epochs,
                callbacks=watching,
                shuffle=False,
                verbose=0,
            )
            step += num_epoch_steps * num_epochs


def _feed(devices: Devices, batches_from: Callable[..., Any], step: int) -> Any:
    if devices.strategy is None:
        return batches_from(step)
    return devices.distribute(lambda share: batches_from(step, share=share))
