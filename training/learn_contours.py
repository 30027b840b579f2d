r"""Learns to detect contours from photographs and what people drew in them.

    python -m training.learn_contours --images BSDS500 --split train --run runs/edges

and then of which kind they are, by attributes of what people drew (`training.learn_attributes` of
clusters with `--unit contour`):

    python -m training.learn_contours --images BSDS500 --split train --start runs/edges \
        --attributes runs/contour_attributes --run runs/contours

The same command again resumes a run that was interrupted, and says so where it is finished.
Afterwards: `python -m evaluation.contours --run runs/contours --gt BSDS500 --out results`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from training.configs import load_recipe
from training.flags import parse_flags, run_script

EDGES, KINDS = "contours_small", "contours_attributes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to learn from.

    Attributes:
        images: BSDS500, a folder or tar archive with images and groundTruth.
        run: run folder; made, or resumed.
        split: train, val or test; all that are there if not given.
        recipe: a file in training/configs/; contours_small, or contours_attributes with
            --attributes, if not given.
        attributes: run folder of training.learn_attributes, of contour patches.
        start: run folder of this command, whose weights training begins with.
        steps: overrides the recipe.
        learning_rate: overrides the recipe.
        seed: seed of weights and draws, 0 to 2**31 - 1.
    """

    images: str
    run: Path
    split: str | None = None
    recipe: str | None = None
    attributes: Path | None = None
    start: Path | None = None
    steps: int | None = None
    learning_rate: float | None = None
    seed: int = 0


def main(config: Config) -> dict[str, Any]:
    """Learns, or goes on, and gives the summary of the run."""
    from keras_ctxattr.tasks.contours.attributes import read_contour_attributes
    from keras_ctxattr.tasks.contours.labels import read_contour_images
    from keras_ctxattr.tasks.contours.learning import learn_contours, load_contour_network
    from keras_ctxattr.tasks.contours.recipe import ContourRecipe

    given: dict[str, Any] = {"optimizer_steps": config.steps, "learning_rate": config.learning_rate}
    recipe = dataclasses.replace(
        load_recipe(config.recipe or (KINDS if config.attributes else EDGES), ContourRecipe),
        **{name: value for name, value in given.items() if value is not None},
    )
    images = read_contour_images(config.images, config.split)
    return learn_contours(
        images,
        config.run,
        recipe,
        attributes=read_contour_attributes(config.attributes) if config.attributes else None,
        start=load_contour_network(config.start) if config.start else None,
        seed=config.seed,
    )


def _report(config: Config) -> None:
    summary = main(config)
    print(
        f"{config.run}: {summary['steps']} steps on {summary['num_images']} photographs; "
        f"{summary['contours_found']:.1%} of the contours' pixels and "
        f"{summary['others_found']:.1%} of the others told rightly in training"
        + (
            f", and {summary['bits_found']:.1%} of the bits of {summary['num_attributes']} "
            "attributes."
            if summary["num_attributes"]
            else "."
        )
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
