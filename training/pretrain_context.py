"""Learns visual features from unlabelled photographs by context prediction.

    python -m training.pretrain_context --images PHOTOS --run runs/photos [--minutes 15]

The same command again resumes a run that was interrupted, and says so where it is finished. With
`--steps` instead of `--minutes` the result does not depend on the machine's speed, nor on
interruptions. Afterwards: `ctxattr export runs/photos --out module`, and
`python -m evaluation.pretext_accuracy --run runs/photos --out results`.
"""

import dataclasses
import sys
from pathlib import Path

from keras_ctxattr.cli.app import scan_progress
from training.configs import load_recipe
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to train on, and for how long.

    Attributes:
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated.
        run: run folder; made, or resumed.
        recipe: a file in training/configs/.
        minutes: training time over all resumes; 15 if neither minutes nor steps are given.
        steps: number of training steps instead.
        seed: seed of weights and draws, 0 to 2**31 - 1.
        held_out: share of the images that is never trained on.
        jitter: overrides the recipe, for ablations: largest shift of a patch in pixels.
        gap: overrides the recipe, for ablations: pixels between patches.
        colour: overrides the recipe, for ablations: drop, project or none.
        distribute: none; mirrored, for all GPUs of the machine; or multiworker, for processes
            that TF_CONFIG names, see docs/scale.md. The batch is then divided among the devices.
        groups: equal parts that a batch is made in, a multiple of the number of devices; as many
            as there are devices if not given. On any number that divides it a run is the same.
        deadline_minutes: how long workers wait for each other before they give up.
    """

    images: list[str]
    run: Path
    recipe: str = "small_photos"
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    held_out: float = 0.2
    jitter: int | None = None
    gap: int | None = None
    colour: str | None = None
    distribute: str = "none"
    groups: int | None = None
    deadline_minutes: float = 10.0


def main(config: Config) -> dict[str, float]:
    """Trains, or goes on training, and gives the summary of the run."""
    from keras_ctxattr.context.recipe import ContextRecipe
    from keras_ctxattr.context.training import train_context
    from keras_ctxattr.runs.distribution import open_devices

    recipe = load_recipe(config.recipe, ContextRecipe)
    devices = open_devices(config.distribute, deadline_minutes=config.deadline_minutes)
    groups = config.groups or _known_groups(config.run)
    groups = groups or max(devices.num_replicas, recipe.grids.num_groups)
    chosen = {"jitter": config.jitter, "gap": config.gap, "num_groups": groups}
    geometry = {name: value for name, value in chosen.items() if value is not None}
    recipe = dataclasses.replace(
        recipe,
        grids=dataclasses.replace(recipe.grids, **geometry),
        colour=config.colour or recipe.colour,
    )
    with scan_progress() as progress:
        return train_context(
            config.images,
            config.run,
            recipe,
            steps=config.steps,
            minutes=config.minutes,
            seed=config.seed,
            held_out=config.held_out,
            devices=devices,
            progress=progress,
        )


def _known_groups(folder: Path) -> int | None:
    """Gives the parts of a batch of a run that is there: it may go on with other devices."""
    from keras_ctxattr.context.trained import KIND
    from keras_ctxattr.runs import Run, RunError

    try:
        return Run.read(folder, kind=KIND).config["recipe"]["grids"]["num_groups"]
    except (RunError, KeyError):
        return None


def _report(config: Config) -> None:
    summary = main(config)
    print(
        f"{config.run}: {summary['steps']} steps in {summary['seconds'] / 60:.1f} minutes; "
        f"held-out accuracy {summary['accuracy']:.1%} on {summary['num_held_out_images']} "
        "photographs (chance 12.5%). Finished."
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
