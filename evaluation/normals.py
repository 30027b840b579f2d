"""How well surface normals are predicted: the five measures of NYUv2 on frames held out.

    python -m evaluation.normals --run runs/normals --out results

Over all valid pixels of the frames that the run held out (the test frames, with NYU's split) it
gives mean and median error in degrees and the shares of pixels within 11.25, 22.5 and 30 degrees,
of the network and of two predictions that do not look at the photograph: the mean normal of the
training frames, and that of each position in them. Writes results.json and normals.png. Half a
second a frame on two cores; of NYU's 654 test frames the errors take 5 GB of memory.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, print_table, write_results
from keras_ctxattr.cli.app import show_progress
from keras_ctxattr.data.rgbd import RgbdSource
from keras_ctxattr.pictures import normals_sheet, write_png
from keras_ctxattr.tasks.normals.baselines import MeanNormals, Predict
from keras_ctxattr.tasks.normals.predicting import BASELINES, finished_run, load_normals_model
from keras_ctxattr.tasks.normals.scoring import score_frame, score_frames
from keras_ctxattr.tasks.normals.sources import FramesPlace, rows_of
from training.flags import parse_flags, run_script

MEASURES = ("mean", "median", "within_11.25", "within_22.5", "within_30")
KINDS = {
    "network": "network",
    "mean": "mean normal",
    "mean_by_position": "mean normal of each position",
}
"""Row of the results -> its name in the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which run, on which frames.

    Attributes:
        run: run folder of training.finetune_normals.
        out: folder of results.json and normals.png.
        frames: where the frames are now, or other frames with --every; those that the run was
            trained with if not given.
        every: scores all of --frames, not those held out alone.
        colour_focal: for --every: focal length of the colour camera of --frames, where it is not
            the depth's.
        colour_offset: metres from the depth's camera to it, to the right.
        num_pictures: frames in the picture.
        seed: of the frames in the picture.
    """

    run: Path
    out: Path
    frames: str | None = None
    every: bool = False
    colour_focal: float | None = None
    colour_offset: float = 0.0
    num_pictures: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_pictures")
        check_seed(self)
        if self.every and self.frames is None:
            raise ValueError(
                "`--every` needs `--frames`: the run has learnt from most of its own. "
                "Received: no --frames"
            )
        if self.colour_focal is not None and not self.every:
            raise ValueError(
                "`--colour-focal` belongs to `--every`: the run knows its own frames' camera. "
                f"Received: --colour-focal {self.colour_focal}"
            )


def main(config: Config) -> dict[str, Any]:
    """Predicts, scores, writes everything, and gives the results."""
    out = check_folder(config.out)
    run = finished_run(config.run)
    place, source, rows = _find_frames(config, run.summary)
    radius = run.config["recipe"]["radius"]
    network: Predict = load_normals_model(config.run).predict
    predictors = {"network": network, **MeanNormals.load(run.path / BASELINES).predictors()}
    with show_progress("scoring frames") as progress:
        values = score_frames(source, rows, predictors, radius=radius, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    write_png(out / "normals.png", _picture(config, source, rows, network, radius))
    return write_results(
        out,
        values,
        script="evaluation.normals",
        config=config,
        protocol=(
            "angular errors in degrees over all pixels of all frames together whose depth gives a "
            f"normal, by a plane through the {2 * radius + 1} x {2 * radius + 1} pixels around, at "
            "the depth's own size"
        ),
        images={
            "images": _describe(config, run.summary),
            "num_images": len(rows),
            "sources": [place.frames],
            "backbone": run.config["network"],
        },
    )


def _find_frames(
    config: Config, summary: dict[str, Any]
) -> tuple[FramesPlace, RgbdSource, tuple[int, ...]]:
    """Gives where frames are, the frames, and which of them are scored."""
    place = FramesPlace(**summary["place"])
    if config.frames is not None and config.every:
        place = FramesPlace(
            frames=config.frames,
            colour_focal=config.colour_focal,
            colour_offset=config.colour_offset,
        )
    elif config.frames is not None:
        place = dataclasses.replace(place, frames=config.frames, splits=None)
    source = place.open()
    if config.every:
        return place, source, tuple(range(len(source.names)))
    return place, source, rows_of(source, tuple(summary["held_out"]), place.frames)


def _describe(config: Config, summary: dict[str, Any]) -> str:
    if config.every:
        return "all frames of --frames"
    return (
        "NYU's test frames"
        if summary["place"]["splits"]
        else "the block of frames that the run held out"
    )


def _picture(
    config: Config, source: RgbdSource, rows: tuple[int, ...], predict: Predict, radius: int
) -> np.ndarray:
    """Shows some frames, in their order."""
    generator = np.random.default_rng(config.seed)
    count = min(config.num_pictures, len(rows))
    chosen = sorted(generator.choice(len(rows), count, replace=False))
    found = [score_frame(source.read(rows[row]), predict, radius=radius) for row in chosen]
    return normals_sheet(
        [(one.frame.pixels, one.normals, one.predicted, one.errors) for one in found],
        row_titles=[one.frame.name for one in found],
    )


def report(results: dict[str, Any]) -> None:
    """Prints the table."""
    rows = {
        name: [
            f"{results[kind][measure]:.1%}"
            if measure.startswith("within")
            else f"{results[kind][measure]:.1f}"
            for measure in MEASURES
        ]
        for kind, name in KINDS.items()
    }
    columns = ("", "mean", "median", "11.25", "22.5", "30 degrees")
    print_table("angular error in degrees, and pixels within", rows, columns)


if __name__ == "__main__":
    run_script(lambda config: report(main(config)), parse_flags(Config, sys.argv[1:]))
