"""What a training has made: its model, its recipe, and its features as a module."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.export import export_module
from keras_ctxattr.runs import Checkpoint, Run, RunError, RunWarning
from keras_ctxattr.runs.checkpoints import is_whole_archive

KIND = "context"


def load_predictor(folder: str | Path) -> ContextPredictor:
    """Gives the trained model of a run: the finished one, or that of its last checkpoint.

    Args:
        folder: the run folder.

    Raises:
        RunError: if there is no such run, or what it made is damaged.
        ValueError: if it has no checkpoint yet.
    """
    run = Run.read(folder, kind=KIND)
    path = run.path / "model.keras"
    # A run that was given a larger budget has an old `model.keras` until it is finished again.
    if run.finished and is_whole_archive(path):
        return keras.saving.load_model(path)
    checkpoint = run.latest_checkpoint()
    if run.finished:
        _check_stands_in(checkpoint, run)
    if checkpoint is None:
        raise ValueError(
            f"{folder} has no whole checkpoint yet: train it for a few minutes first "
            "(the same command goes on)."
        )
    model = build_predictor(recipe_of(run), run.config["seed"])
    checkpoint.restore(model)
    return model


def _check_stands_in(checkpoint: Checkpoint | None, run: Run) -> None:
    """Warns that a checkpoint serves in place of a damaged `model.keras`, if it can."""
    path, step = run.path / "model.keras", run.summary.get("steps")
    if checkpoint is None or checkpoint.step != step:
        raise RunError(
            f"{path} is damaged, and {run.checkpoints} has no whole checkpoint of its step {step}: "
            f"restore one of them, or delete {run.path / 'summary.json'} and give the training "
            "command again, which goes on from what there is."
        )
    warnings.warn(
        f"{path} is damaged: its checkpoint of step {step}, which is whole, is used instead.",
        RunWarning,
        stacklevel=3,
    )


def export_run(
    folder: str | Path,
    directory: str | Path,
    *,
    colour: str = "none",
    overwrite: bool = False,
    license: str | None = None,
    model: keras.Model | None = None,
    further: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the features that a run learnt as a reusable SavedModel.

    Args:
        folder: the run folder, finished or not.
        directory: where to write, see `keras_ctxattr.export.export_module`.
        colour: `"none"` or `"project"`.
        overwrite: whether to replace a module that is there.
        license: under which licence others may use it, see `export_module`.
        model: what to export in place of the run's own model, such as attributes of its features.
        further: how such a model was trained, by stage; `module.json` says it beside the run's
            configuration.

    Returns:
        The folder of the module.
    """
    run = Run.read(folder, kind=KIND)
    return export_module(
        load_predictor(folder) if model is None else model,
        directory,
        colour=colour,
        metadata=_learnt_from(run),
        config={**run.config, **(further or {})},
        metrics=_reached(run),
        license=license,
        overwrite=overwrite,
    )


def _learnt_from(run: Run) -> dict[str, Any]:
    """Gives the sources of a run's images and, once it is finished, how many there were."""
    counts = ("num_training_images", "num_held_out_images")
    found = {name: run.summary[name] for name in counts if name in run.summary}
    return {"images": run.config["images"], **found}


def _reached(run: Run) -> dict[str, float]:
    """Gives what a run has reached on its held-out images, and at which step that was measured."""
    if run.finished:
        names, reached = ("accuracy", "loss", "steps"), run.summary
    else:
        checkpoint = run.latest_checkpoint()
        last = checkpoint.step if checkpoint else 0
        rows = [row for row in run.metrics.rows() if row["step"] <= last and "val_loss" in row]
        names, reached = ("val_accuracy", "val_loss", "step"), rows[-1] if rows else {}
    given = ("held_out_accuracy", "held_out_loss", "step")
    return {new: reached[old] for new, old in zip(given, names, strict=True) if old in reached}


def recipe_of(run: Run) -> ContextRecipe:
    """Gives the recipe that a run was started with."""
    stored = dict(run.config["recipe"])
    return ContextRecipe(**{**stored, "grids": GridConfig(**stored["grids"])})
