"""Training by steps to the end of a budget, with everything that a run folder keeps."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_ctxattr.runs.callbacks.guards import CollapseGuard
from keras_ctxattr.runs.callbacks.progress import ProgressLine
from keras_ctxattr.runs.callbacks.records import Checkpointer, MetricsLog
from keras_ctxattr.runs.callbacks.steps import ProgressSchedule, TimeLimit, fit_segments

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint, Run


def fit_steps(
    model: keras.Model,
    batches_from: Callable[[int], Any],
    run: Run,
    *,
    num_steps: int,
    epoch_size: int,
    learning_rate: float,
    checkpoint_minutes: float,
    resumed: Checkpoint | None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains to the end of the budget, from the last checkpoint on.

    The learning rate follows half a cosine to 0. Training is logged, checkpointed and watched for
    collapse, with a line of progress on the error stream.

    Args:
        model: compiled; restored where there is a checkpoint.
        batches_from: gives the batches from a step on, without end.
        run: opened for training.
        num_steps: steps of the whole run.
        epoch_size: steps over which metrics are means.
        learning_rate: at the start.
        checkpoint_minutes: time between checkpoints.
        resumed: the checkpoint; None at the start.
        callbacks: further ones, called first.

    Raises:
        TrainingCollapsed: if training failed for good.
    """
    step = resumed.step if resumed else 0
    epoch_step = resumed.state["epoch_step"] if resumed else 0
    clock = TimeLimit(already_spent_seconds=resumed.state["seconds"] if resumed else 0.0)
    watching = [
        *callbacks,
        ProgressSchedule(
            lambda progress: learning_rate * 0.5 * (1 + math.cos(math.pi * progress)),
            lambda done: done / num_steps,
            resumed=resumed,
        ),
        CollapseGuard(resumed=resumed),
        MetricsLog(run, clock, resumed=resumed),
        ProgressLine(clock, num_steps=num_steps, resumed=resumed),
        Checkpointer(run, clock, every_minutes=checkpoint_minutes, resumed=resumed),
        clock,
    ]
    if resumed and step < num_steps:
        print(f"Going on from step {step}.", file=sys.stderr, flush=True)
    for num_epoch_steps, num_epochs in fit_segments(step, epoch_step, epoch_size, num_steps):
        model.fit(
            batches_from(step),
            steps_per_epoch=num_epoch_steps,
            epochs=num_epochs,
            callbacks=watching,
            shuffle=False,
            verbose=0,
        )
        step += num_epoch_steps * num_epochs
