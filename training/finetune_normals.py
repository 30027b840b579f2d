"""Learns surface normals from photographs with depth, starting from a trained network.

    python -m training.finetune_normals --frames FRAMES --backbone MODULE --run runs/normals

FRAMES is a folder or tar archive of `frame-NAME.color.jpg`, `frame-NAME.depth.png` and
`camera-intrinsics.txt`, or `nyu_depth_v2_labeled.mat` with `--splits splits.mat`. The backbone is a
module (`ctxattr learn`, `ctxattr export`), a run of training.pretrain_context, a `.keras` file or
any SavedModel that maps images to a map of features. The same command again resumes a run that was
interrupted, and says so where it is finished. The run folder then holds model.keras.
Afterwards: `python -m evaluation.normals --run runs/normals --out results`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from keras_ctxattr.cli.app import show_progress
from training.configs import load_recipe
from training.flags import parse_flags, run_script

SMALL, NYU = "normals_small", "normals_nyuv2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to learn from, and how.

    Attributes:
        frames: folder or tar archive of RGB-D frames, or nyu_depth_v2_labeled.mat.
        backbone: network to start from; or untrained:alexnet, for fresh weights.
        run: run folder; made, or resumed.
        splits: NYU's splits.mat: learns from its training frames, holds out its test frames.
        held_out: share of the frames that is held out, in one block of neighbours; of no use with
            --splits.
        block: number of that block, from 0; the last one if not given.
        recipe: a file in training/configs/; normals_small, or normals_nyuv2 with --splits, if not
            given.
        layer: name of the backbone's layer whose map to take.
        colour_focal: focal length of the colour camera in pixels, where photographs are not of the
            depth's view.
        colour_offset: metres from the depth's camera to the colour camera, to the right.
        train_backbone: overrides the recipe: else the head alone learns.
        steps: overrides the recipe.
        learning_rate: overrides the recipe.
        seed: seed of weights and draws, 0 to 2**31 - 1.
    """

    frames: str
    backbone: str
    run: Path
    splits: str | None = None
    held_out: float = 0.2
    block: int | None = None
    recipe: str | None = None
    layer: str | None = None
    colour_focal: float | None = None
    colour_offset: float = 0.0
    train_backbone: bool | None = None
    steps: int | None = None
    learning_rate: float | None = None
    seed: int = 0


def main(config: Config) -> dict[str, Any]:
    """Learns, or goes on, and gives the summary of the run."""
    from keras_ctxattr.tasks.detection.transfer import open_feature_network
    from keras_ctxattr.tasks.normals.frames import label_frames
    from keras_ctxattr.tasks.normals.learning import learn_normals
    from keras_ctxattr.tasks.normals.sources import FramesPlace, divide_frames

    recipe = _choose_recipe(config)
    place = FramesPlace(
        frames=config.frames,
        splits=config.splits,
        colour_focal=config.colour_focal,
        colour_offset=config.colour_offset,
    )
    source, rows, held_out = divide_frames(place, config.held_out, config.block)
    features = open_feature_network(config.backbone, layer=config.layer, seed=config.seed)
    with show_progress("reading frames") as progress:
        frames = label_frames(
            source, rows, longer_side=recipe.longer_side, radius=recipe.radius, progress=progress
        )
    return learn_normals(
        frames,
        config.run,
        features,
        recipe,
        seed=config.seed,
        about={"place": place.describe(), "held_out": list(held_out)},
    )


def _choose_recipe(config: Config) -> Any:
    from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

    given: dict[str, Any] = {
        "optimizer_steps": config.steps,
        "learning_rate": config.learning_rate,
        "train_backbone": config.train_backbone,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    name = config.recipe or (NYU if config.splits else SMALL)
    return dataclasses.replace(load_recipe(name, NormalsRecipe), **chosen)


def _report(config: Config) -> None:
    summary = main(config)
    print(
        f"{config.run}: {summary['steps']} steps on {summary['num_frames']} frames, "
        f"{summary['share_valid']:.0%} of whose pixels have a normal; a mean error of "
        f"{summary['angle']:.1f} degrees in training; {len(summary['held_out'])} frames held out."
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
