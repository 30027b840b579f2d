"""Context prediction from a collection of images to a trained model, in a run folder."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.context.callbacks import (
    Checkpointer,
    CollapseGuard,
    MetricsLog,
    PatchPictures,
    ProgressLine,
    ProgressSchedule,
    TimeLimit,
)
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor, resolve_policy
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.data.manifest.scan import Progress
from keras_ctxattr.export import export_module
from keras_ctxattr.runs import Checkpoint, Run

KIND = "context"
IMAGES = "images.sqlite"
HELD_OUT_IMAGES = "held_out.sqlite"  # only where held-out images were named
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
        held_out: share of the images that is never trained on.
        held_out_images: sources of images to hold out instead; `images` are then all trained on.
        callbacks: further Keras callbacks, called first.
        progress: called with (files looked at, files in all or None) while images are scanned.

    Returns:
        `accuracy` (held-out, share of pairs), `loss`, `steps`, `seconds` of training,
        `num_training_images`, `num_held_out_images`.

    Raises:
        ValueError: if the budget or the collection is unusable.
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.
    """
    recipe = recipe or ContextRecipe()
    recipe = dataclasses.replace(recipe, dtype_policy=resolve_policy(recipe.dtype_policy))
    steps, minutes = _check_budget(steps, minutes)
    config = {
        "images": [str(source) for source in images],
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "held_out": held_out,
        "held_out_images": [str(source) for source in held_out_images],
        "steps": steps,
        "minutes": minutes,
    }
    with Run.open(folder, config, kind=KIND, extendable=("steps", "minutes")) as run:
        if run.finished:
            return run.summary
        _collection(run, IMAGES, images, recipe.grids, progress)
        if held_out_images:
            _collection(run, HELD_OUT_IMAGES, held_out_images, recipe.grids, progress)
        training, tested = split_run(run)
        model = build_predictor(recipe, seed)
        held_out_batches = evaluation_batches(tested, recipe.grids, num_images=100)
        trainer = _Trainer(run, model, recipe, training, held_out_batches, steps, minutes, seed)
        trainer.fit(callbacks)
        summary = trainer.evaluate()
        summary |= {"num_training_images": len(training), "num_held_out_images": len(tested)}
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
    if (steps is not None and steps < 1) or (minutes is not None and not minutes > 0):
        raise ValueError(
            "`steps` must be at least 1 and `minutes` over 0. "
            f"Received: steps={steps}, minutes={minutes}"
        )
    return (steps, minutes) if steps or minutes else (None, 15.0)


def _collection(
    run: Run,
    name: str,
    images: Sequence[str | Path],
    grids: GridConfig,
    progress: Progress | None,
) -> Manifest:
    """Scans images, or reads what the first start of this run found."""
    path = run.path / name
    if path.exists():
        return Manifest.load(path)
    manifest = grids.mark_too_small(scan_images(images, progress=progress))
    with run.writing(path.name) as partial:
        manifest.save(partial)
    return manifest


def split_run(run: Run) -> tuple[Manifest, Manifest]:
    """Gives (training, held-out) images of a run, usable ones only."""
    manifest = Manifest.load(run.path / IMAGES).usable()
    if run.config["held_out_images"]:
        return manifest, Manifest.load(run.path / HELD_OUT_IMAGES).usable()
    return manifest.split(run.config["held_out"])


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
    )
    batches = grid_batches(manifest, config, seed=seed, num_steps=count)
    return batches.map(_without_idle_patches, num_parallel_calls=2, deterministic=True)


def _without_idle_patches(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Drops the patches that are in no pair: they matter to the statistics of training only."""
    num_used = tf.reduce_max(batch["pairs"][:, :2]) + 1
    return {**batch, "corners": batch["corners"][:num_used]}


def load_predictor(folder: str | Path) -> ContextPredictor:
    """Gives the trained model of a run: the finished one, or that of its last checkpoint.

    Args:
        folder: the run folder.

    Raises:
        RunError: if there is no such run.
        ValueError: if it has no checkpoint yet.
    """
    run = Run.read(folder, kind=KIND)
    path = run.path / "model.keras"
    # A run that was given a larger budget has an old `model.keras` until it is finished again.
    if run.finished:
        return keras.saving.load_model(path)
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise ValueError(
            f"{folder} has no checkpoint yet: train it for a few minutes first "
            "(the same command goes on)."
        )
    model = build_predictor(recipe_of(run), run.config["seed"])
    checkpoint.restore(model)
    return model


def export_run(
    folder: str | Path, directory: str | Path, *, colour: str = "none", overwrite: bool = False
) -> Path:
    """Writes the features that a run learnt as a reusable SavedModel.

    Args:
        folder: the run folder, finished or not.
        directory: where to write, see `keras_ctxattr.export.export_module`.
        colour: `"none"` or `"project"`.
        overwrite: whether to replace a module that is there.

    Returns:
        The folder of the module.
    """
    run = Run.read(folder, kind=KIND)
    return export_module(
        load_predictor(folder),
        directory,
        colour=colour,
        metadata={"run": run.config, "summary": run.summary},
        overwrite=overwrite,
    )


def recipe_of(run: Run) -> ContextRecipe:
    """Gives the recipe that a run was started with."""
    stored = dict(run.config["recipe"])
    return ContextRecipe(**{**stored, "grids": GridConfig(**stored["grids"])})


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

    def __post_init__(self) -> None:
        self.resumed = self.run.restore(self.model)
        spent = self.resumed.state["seconds"] if self.resumed else 0.0
        self.clock = TimeLimit(self.minutes, already_spent_seconds=spent)

    def fit(self, further: Sequence[keras.callbacks.Callback]) -> None:
        """Trains to the end of the budget."""
        callbacks = [*further, *self._callbacks()]
        step = self.resumed.step if self.resumed else 0
        epoch_step = self.resumed.state["epoch_step"] if self.resumed else 0
        total = _ENDLESS if self.steps is None else self.steps
        for num_steps, num_epochs in _segments(step, epoch_step, self.recipe.evaluate_every, total):
            if self.clock.reached:
                return
            self.model.fit(
                self._batches(step),
                steps_per_epoch=num_steps,
                epochs=num_epochs,
                validation_data=self.held_out_batches,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
            step += num_steps * num_epochs

    def evaluate(self) -> dict[str, Any]:
        """Scores the model at the end."""
        scores = self.model.evaluate(self.held_out_batches, verbose=0, return_dict=True)
        checkpoint = self.run.latest_checkpoint()
        return {
            "accuracy": float(scores["accuracy"]),
            "loss": float(scores["loss"]),
            "steps": checkpoint.step if checkpoint else 0,
            "seconds": round(self.clock.elapsed_seconds, 1),
        }

    def _batches(self, first_step: int) -> tf.data.Dataset:
        grids = self.recipe.grids
        return grid_batches(self.training, grids, seed=self.seed, first_step=first_step)

    def _progress(self, step: int) -> float:
        return self.clock.fraction if self.steps is None else step / self.steps

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        resumed: Checkpoint | None = self.resumed
        minutes = self.recipe.checkpoint_minutes
        return [
            ProgressSchedule(self.recipe.rate_at, self._progress, resumed=resumed),
            CollapseGuard(resumed=resumed),
            PatchPictures(self.run, next(iter(self._batches(0))), resumed=resumed),
            MetricsLog(self.run, self.clock, resumed=resumed),
            ProgressLine(
                self.clock,
                num_steps=self.steps,
                pairs_per_step=0.95 * self.recipe.grids.pairs_per_batch,
                resumed=resumed,
            ),
            Checkpointer(self.run, self.clock, every_minutes=minutes, resumed=resumed),
            self.clock,
        ]


def _segments(step: int, epoch_step: int, epoch_size: int, total: int) -> Iterator[tuple[int, int]]:
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
