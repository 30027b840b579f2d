"""How often a trained model tells the position of the second patch (Doersch et al. 2015, 4.6).

    python -m evaluation.pretext_accuracy --run runs/photos --out results/pretext
    python -m evaluation.pretext_accuracy --run runs/photos --voc VOCdevkit.tar --out results/boxes

Without `--images` on the run's own held-out photographs. Half a minute for 100 photographs on two
cores. Published, trained on ImageNet: 38.4 % on VOC 2007, 39.5 % on ImageNet training images,
40.3 % on validation images; inside the boxes of objects 39.2 %, of cars 45.6 %; chance is 12.5 %.

Colours are dropped whatever the run was trained with, so that all runs are scored on one task;
`--colour run` scores the task that the run was trained on. Gap and jitter are the run's.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.checks import check_counts, check_seed
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    track,
    write_results,
)
from evaluation.voc_boxes import box_batches, read_whole_objects
from keras_ctxattr.context.evaluation import count_positions, summarize_positions, with_colour
from keras_ctxattr.context.training import (
    evaluation_batches,
    load_predictor,
    recipe_of,
    split_run,
)
from keras_ctxattr.data.grids import POSITIONS
from keras_ctxattr.layers.processing import COLOURS
from keras_ctxattr.pictures import confusion_picture, write_png
from keras_ctxattr.runs import Run
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to evaluate, on what.

    Attributes:
        run: run folder of training.pretrain_context, finished or running.
        out: folder of results.json and confusion.png.
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated; the run's held-out
            images if not given.
        voc: folder or archive in the layout of VOC: pairs only inside boxes of objects.
        voc_set: its list of images in ImageSets/Main.
        num_images: number of images (with `voc`: of boxes), drawn without repetition.
        pairs_per_image: pairs of patches in each, even (with `voc`: a multiple of 8).
        colour: what the patches' colours go through: drop, project, none, or run: as in training.
        seed: seed of images, pairs, jitter and colours.
    """

    run: Path
    out: Path
    images: list[str] = dataclasses.field(default_factory=list)
    voc: Path | None = None
    voc_set: str = "trainval"
    num_images: int = 500
    pairs_per_image: int = 256
    colour: str = "drop"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers and the name."""
        check_counts(self, "num_images", "pairs_per_image")
        check_seed(self)
        step = 8 if self.voc else 2
        if self.pairs_per_image % step:
            raise ValueError(
                f"`--pairs-per-image` must be a multiple of {step}. "
                f"Received: {self.pairs_per_image}"
            )
        choices = (*COLOURS, "run")
        if self.colour not in choices:
            raise ValueError(
                f"`--colour` must be one of {', '.join(choices)}. Received: {self.colour}"
            )
        if self.voc and self.images:
            raise ValueError("Give `--images` or `--voc`, not both")


def main(config: Config) -> dict[str, Any]:
    """Evaluates, writes results and picture, and gives the results."""
    out = check_folder(config.out)
    model = load_predictor(config.run)
    settings = model.get_config()
    colour = settings["colour"] if config.colour == "run" else config.colour
    model = with_colour(model, colour)
    counts, images, values = (
        _count_in_boxes(model, config.voc, config) if config.voc else _count(model, config)
    )
    colours = {"colour": colour, "colour_trained": settings["colour"]}
    values = {**summarize_positions(counts), **values, **colours, "jitter": settings["jitter"]}
    picture = confusion_picture(counts.sum(axis=0), POSITIONS, title="position of second patch")
    write_png(out / "confusion.png", picture)
    protocol = (
        f"context-prediction{'-boxes' if config.voc else ''}: {config.pairs_per_image} pairs "
        f"{'a box' if config.voc else 'an image'}, jitter {settings['jitter']}, colour "
        f"{colour} (trained with {settings['colour']}), no downsampling; accuracy over all pairs; "
        "confusion in counts, rows true, columns predicted, positions row-major"
    )
    return write_results(
        out,
        values,
        script="evaluation.pretext_accuracy",
        config=config,
        protocol=protocol,
        images=images,
    )


def _count(model: Any, config: Config) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    run = Run.read(config.run)
    manifest = collect(config.images) if config.images else split_run(run)[1]
    grids = recipe_of(run).grids
    usable = grids.mark_too_small(manifest).usable()
    number = min(config.num_images, len(usable))
    if number < config.num_images:
        print(f"{number} usable images, fewer than {config.num_images}: all are used")
    batches = evaluation_batches(
        usable,
        grids,
        num_images=number,
        pairs_per_image=config.pairs_per_image,
        seed=config.seed,
    )
    counts = count_positions(model, track(batches, number, "images"))
    what = "as given" if config.images else "held out by the run"
    return counts, describe_images(usable, what), {"gap": grids.gap}


def _count_in_boxes(
    model: Any, source: Path, config: Config
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    objects = read_whole_objects(source, config.voc_set)
    classes: list[str] = []

    def batches() -> Iterator[dict[str, Any]]:
        for name, batch in box_batches(
            objects,
            patch_size=model.cutter.patch_size,
            num_boxes=config.num_images,
            pairs_per_box=config.pairs_per_image,
            seed=config.seed,
        ):
            classes.append(name)
            yield batch

    most = min(config.num_images, len(objects.classes))
    counts = count_positions(model, track(batches(), most, "boxes"))
    if len(counts) == 0:
        raise ValueError(
            "At least one box must hold two patches a side once its image is scaled. Received: "
            f"{len(objects.classes)} whole boxes in {source}, in none of which they find room"
        )
    per_class = {}
    for name in sorted(set(classes)):
        chosen = counts[[one == name for one in classes]].sum(axis=0)
        per_class[name] = float(chosen.trace() / chosen.sum())
    images = {"images": config.voc_set, "num_images": len(counts), "sources": [str(source)]}
    return counts, images, {"accuracy_per_class": per_class, "num_boxes": len(counts)}


def report(config: Config) -> None:
    """Evaluates, and prints one table."""
    results = main(config)
    rows: dict[str, Any] = {
        "colour": f"{results['colour']} (trained with {results['colour_trained']})",
        "accuracy": f"{results['accuracy']:.1%} ± {results['accuracy_standard_error']:.1%}",
        "chance": f"{results['chance']:.1%}",
        "always the most frequent": f"{results['majority']:.1%}",
        "mean over positions": f"{results['accuracy_over_positions']:.1%}",
        "images": results["num_images"],
        "pairs": results["num_pairs"],
    }
    for position, value in zip(POSITIONS, results["accuracy_per_position"], strict=True):
        rows[position] = "" if value is None else f"{value:.1%}"
    for name, value in results.get("accuracy_per_class", {}).items():
        rows[f"in boxes of {name}"] = f"{value:.1%}"
    print_table(f"pretext accuracy -> {config.out}", rows)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
