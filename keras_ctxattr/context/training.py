"""Context prediction from a collection of images to a trained model, in a run folder."""

import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.backbones.precision import resolve_policy
from keras_ctxattr.context.images import collect_images, explained_changes, split_run
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor
from keras_ctxattr.context.trained import KIND, export_run, load_predictor, recipe_of
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.manifest.scan import Progress
from keras_ctxattr.runs import Checkpoint, Run
from keras_ctxattr.runs.callbacks import (
    Checkpointer,
    CollapseGuard,
    MetricsLog,
    PatchPictures,
    ProgressLine,
    ProgressSchedule,
    TimeLimit,
    fit_segments,
)
from keras_ctxattr.runs.distribution import (
    Devices,
    contained,
    open_together,
    restore_together,
    together,
)

__all__ = [
    "evaluation_batches",
    "export_run",
    "load_predictor",
    "recipe_of",
    "split_run",
    "train_context",
]

_HELD_OUT_SEED = 1_000_003  # held-out pairs are the same for every run and every evaluation
_ENDLESS = 10**9


def train_context(
    images: Sequence[str | Path],
    folder: str | Path,
    recipe: ContextRecipe | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    held_out: float = 0.2,
    held_out_images: Sequence[str | Path] = (),
    devices: Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains a `ContextPredictor` on photographs; the same call again goes on where it stopped.

    Args:
        images: folders, archives, TFRecord files or `tfds:` names, as `scan_images` takes them.
        folder: the run folder; it will hold `model.keras`, `images.sqlite` and what
            `keras_ctxattr.runs` lists.
        recipe: network, sampling and optimiser, `small_photos` if None.
        steps: number of training steps: the result is then a function of the arguments alone,
            however often it was interrupted.
        minutes: training time instead, over all resumes. 15 if neither is given.
        seed: seed of the weights and of every draw, 0 to 2**31 - 1.
        held_out: share of the images that is never trained on, in (0, 1).
        held_out_images: sources of images to hold out instead; `images` are then all trained on.
        devices: as `keras_ctxattr.runs.distribution.open_devices` gives them; one device if None.
            The batch of the recipe is that of all devices together: each takes as many of its
            `num_groups`, and any number of devices that divides it trains the same.
        callbacks: further Keras callbacks, called first.
        progress: called with (files looked at, files in all or None) while images are scanned.

    Returns:
        `accuracy` (held-out, share of pairs), `loss`, `steps`, `seconds` of training,
        `num_training_images`, `num_held_out_images`.

    Raises:
        ValueError: if a number or the collection is unusable. A new folder is then as it was.
        RunError: if the folder holds another run, or a worker is gone.
        TrainingCollapsed: if training failed for good.
    """
    devices = devices or Devices()
    recipe = recipe or ContextRecipe()
    devices.check_groups(recipe.grids.num_groups)
    recipe = dataclasses.replace(recipe, dtype_policy=resolve_policy(recipe.dtype_policy))
    steps, minutes = _check_budget(steps, minutes)
    devices.check_budget(steps)
    _check_numbers(seed, held_out)
    config = {
        "images": [str(source) for source in images],
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "held_out": held_out,
        "held_out_images": [str(source) for source in held_out_images],
        "steps": steps,
        "minutes": minutes,
    }
    found: dict[str, tuple[Manifest, Manifest]] = {}

    def scan(run: Run) -> None:
        found["images"] = collect_images(run, images, held_out_images, recipe.grids, progress)

    budgets = ("steps", "minutes")
    opened = open_together(devices, folder, config, kind=KIND, extendable=budgets, prepare=scan)
    with together(devices) as heartbeat, opened as run:
        if run.finished:
            return run.summary
        training, tested = found["images"] if found else split_run(run)
        with devices.scope():
            model = build_predictor(recipe, seed)
        held_out_batches = evaluation_batches(tested, recipe.grids, num_images=100)
        trainer = _Trainer(
            run, model, recipe, training, held_out_batches, steps, minutes, seed, devices
        )
        with explained_changes(run, training, tested), contained(model, devices.strategy):
            trainer.fit([heartbeat, *callbacks])
            summary = trainer.evaluate([heartbeat])
            heartbeat.rest()
        summary |= {"num_training_images": len(training), "num_held_out_images": len(tested)}
        if devices.leads:
            with run.writing("model.keras") as partial:
                model.save(partial)
        run.finish(summary)
        return summary


def _check_budget(steps: int | None, minutes: float | None) -> tuple[int | None, float | None]:
    """Gives the budget, 15 minutes by default."""
    if steps is not None and minutes is not None:
        raise ValueError(
            f"Give `steps` or `minutes`, not both. Received: steps={steps}, minutes={minutes}"
        )
    if (steps is not None and steps < 1) or (
        minutes is not None and not (minutes > 0 and math.isfinite(minutes))
    ):
        raise ValueError(
            "`steps` must be at least 1 and `minutes` a finite number over 0. "
            f"Received: steps={steps}, minutes={minutes}"
        )
    return (steps, minutes) if steps or minutes else (None, 15.0)


def _check_numbers(seed: int, held_out: float) -> None:
    if not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must be from 0 to 2**31 - 1. Received: seed={seed}")
    if not 0 < held_out < 1:
        raise ValueError(f"`held_out` must lie between 0 and 1. Received: held_out={held_out}")


def evaluation_batches(
    manifest: Manifest,
    grids: GridConfig,
    *,
    num_images: int | None = None,
    pairs_per_image: int = 256,
    seed: int = _HELD_OUT_SEED,
) -> tf.data.Dataset:
    """Gives one batch an image, each with the same number of pairs, each image once.

    Args:
        manifest: the images.
        grids: geometry; its batch sizes do not matter here.
        num_images: number of images, drawn without repetition; all if None or more than there are.
        pairs_per_image: pairs of one image, even.
        seed: seed of images, grids and colours.

    Returns:
        A dataset of batches as `grid_batches` gives them, with as many patches as are in pairs.
    """
    count = len(manifest) if num_images is None else min(num_images, len(manifest))
    # So many grids suffice even where each has but two cells, which make two pairs.
    config = dataclasses.replace(
        grids,
        images_per_batch=1,
        grids_per_image=max(1, pairs_per_image // 2),
        patches_per_batch=max(2, pairs_per_image),
        pairs_per_batch=pairs_per_image,
        num_groups=1,
    )
    batches = grid_batches(manifest, config, seed=seed, num_steps=count)
    return batches.map(_without_idle_patches, num_parallel_calls=2, deterministic=True)


def _without_idle_patches(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Drops the patches that are in no pair: they matter to the statistics of training only."""
    num_used = tf.reduce_max(batch["pairs"][:, :2]) + 1
    return {**batch, "corners": batch["corners"][:num_used]}


@dataclasses.dataclass
class _Trainer:
    """One process's share of a run: from the last checkpoint to the end of the budget."""

    run: Run
    model: ContextPredictor
    recipe: ContextRecipe
    training: Manifest
    held_out_batches: tf.data.Dataset
    steps: int | None
    minutes: float | None
    seed: int
    devices: Devices

    def __post_init__(self) -> None:
        self.resumed = restore_together(self.devices, self.run, self.model)
        spent = self.resumed.state["seconds"] if self.resumed else 0.0
        self.clock = TimeLimit(self.minutes, already_spent_seconds=spent)

    def fit(self, further: Sequence[keras.callbacks.Callback]) -> None:
        """Trains to the end of the budget."""
        callbacks = [*further, *self._callbacks()]
        step = self.resumed.step if self.resumed else 0
        epoch_step = self.resumed.state["epoch_step"] if self.resumed else 0
        total = _ENDLESS if self.steps is None else self.steps
        if self.resumed and step < total and not self.clock.reached:
            print(f"Going on from step {step}.", file=sys.stderr, flush=True)
        for num_steps, num_epochs in fit_segments(
            step, epoch_step, self.recipe.evaluate_every, total
        ):
            if self.clock.reached:
                return
            self.model.fit(
                self.devices.distribute(functools.partial(self._batches, step)),
                steps_per_epoch=num_steps,
                epochs=num_epochs,
                validation_data=self._held_out(),
                validation_steps=self._num_held_out,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
            step += num_steps * num_epochs

    def evaluate(self, watching: Sequence[keras.callbacks.Callback] = ()) -> dict[str, Any]:
        """Scores the model at the end."""
        scores = self.model.evaluate(
            self._held_out(),
            steps=self._num_held_out,
            callbacks=list(watching),
            verbose=0,
            return_dict=True,
        )
        checkpoint = self.run.latest_checkpoint()
        return {
            "accuracy": float(scores["accuracy"]),
            "loss": float(scores["loss"]),
            "steps": checkpoint.step if checkpoint else 0,
            "seconds": round(self.clock.elapsed_seconds, 1),
        }

    def _held_out(self) -> Any:
        # Every device scores all: they are few, and the means are the same.
        return self.devices.replicate(self.held_out_batches)

    @property
    def _num_held_out(self) -> int:
        return int(self.held_out_batches.cardinality())

    def _batches(self, first_step: int, share: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        grids = self.recipe.grids
        return grid_batches(
            self.training, grids, seed=self.seed, first_step=first_step, share=share
        )

    def _progress(self, step: int) -> float:
        return self.clock.fraction if self.steps is None else step / self.steps

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        resumed: Checkpoint | None = self.resumed
        steering = [
            ProgressSchedule(self.recipe.rate_at, self._progress, resumed=resumed),
            CollapseGuard(resumed=resumed),
        ]
        telling = [
            PatchPictures(self.run, next(iter(self._batches(0))), resumed=resumed),
            MetricsLog(self.run, self.clock, resumed=resumed),
            ProgressLine(
                self.clock,
                num_steps=self.steps,
                # The sum of the weights of this mean: the pairs that are no padding. It is read
                # from all workers, and they do not show their lines at one time.
                count_pairs=None if self.devices.num_workers > 1 else self._count_pairs,
                resumed=resumed,
            ),
        ]
        minutes, steps = self.recipe.checkpoint_minutes, self.recipe.evaluate_every
        due = self.devices.checkpoints_due(minutes, steps)
        saving = Checkpointer(self.run, self.clock, resumed=resumed, **due)
        return [*steering, *(telling if self.devices.leads else []), saving, self.clock]

    def _count_pairs(self) -> float:
        return float(self.model.accuracy_metric.count.numpy())
