"""How much of a patch's place chromatic aberration gives away (Doersch et al. 2015, section 4.2).

    python -m evaluation.aberration --images PHOTOS --images MORE.tar --out results/aberration

Adds lateral aberration to photographs and trains three regressors from a patch to its (x, y): with
colours as they are, with green-magenta projected out, and with colours dropped. Ten minutes each by
default (see the README for our figures; one minute shows the effect already). Published, on
ImageNet's own aberration and the best 10 % of images: an error of .255, .321 with projection, .371
for always answering the centre. `aberration.png` shows an image's patches where each regressor
puts them (figure 5), for the held-out photograph that the unguarded one reads best.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from evaluation.report import (
    collect,
    describe_images,
    make_folder,
    print_table,
    track,
    write_results,
)
from keras_ctxattr.context.aberration import (
    PositionConfig,
    PositionRegressor,
    position_batches,
    position_errors,
    predict_positions,
)
from keras_ctxattr.context.callbacks import ProgressLine, ProgressSchedule, TimeLimit
from keras_ctxattr.context.recipe import dtype_policy
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.pictures import patch_positions_picture, write_png
from training.flags import parse_flags, run_script

GUARDS = ("none", "project", "drop")
_ENDLESS = 10**9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to train on, and for how long.

    Attributes:
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated.
        out: folder of results.json and aberration.png.
        minutes: training time of each regressor; 10 if neither minutes nor steps are given.
        steps: number of training steps of each instead.
        strength: shift between green and the other colours at the corners, pixels (0: only what
            the photographs have of their own).
        held_out: share of the photographs for the evaluation.
        patches_per_image: patches of each of those.
        learning_rate: peak, of Adam.
        seed: seed of weights and draws.
    """

    images: list[str]
    out: Path
    minutes: float | None = None
    steps: int | None = None
    strength: float = 2.0
    held_out: float = 0.2
    patches_per_image: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.minutes is not None and self.steps is not None:
            raise ValueError("Give `--minutes` or `--steps`, not both")
        budget = 1 if self.steps is None else self.steps
        if budget < 1 or (self.minutes is not None and not self.minutes > 0):
            raise ValueError(
                "`--steps` must be at least 1 and `--minutes` over 0. "
                f"Received: {self.steps} and {self.minutes}"
            )
        if self.patches_per_image < 1 or not self.learning_rate > 0:
            raise ValueError(
                "`--patches-per-image` must be at least 1 and `--learning-rate` over 0. "
                f"Received: {self.patches_per_image} and {self.learning_rate}"
            )
        PositionConfig(strength=self.strength)


def main(config: Config) -> dict[str, Any]:
    """Trains the regressors, writes results and picture, and gives the results."""
    out = make_folder(config.out)
    manifest = PositionConfig().grids.mark_too_small(collect(config.images)).usable()
    training, tested = manifest.split(config.held_out)
    settings = PositionConfig(strength=config.strength)
    batches = position_batches(training, settings, seed=config.seed)
    held_out = _held_out(tested, config)
    models, values = {}, {}
    for guard in GUARDS:
        models[guard], seconds, steps = _train(guard, batches, config)
        tracked = track(held_out, len(tested), f"photographs, {guard}")
        true, predicted = predict_positions(models[guard], tracked)
        values[guard] = {
            **position_errors(true, predicted),
            "training_seconds": seconds,
            "steps": steps,
        }
        if guard == "none":
            clearest = _clearest(true, predicted)
    write_png(out / "aberration.png", _picture(models, next(iter(held_out.skip(clearest)))))
    return write_results(
        out,
        {**values, "strength": config.strength, "num_training_images": len(training)},
        script="evaluation.aberration",
        config=config,
        protocol=(
            f"lateral aberration of {config.strength} pixels at the corners added to all "
            f"photographs; {config.patches_per_image} random patches of each held-out photograph; "
            "Euclidean root mean square error in fractions of the image's width and height; "
            "best10: the tenth of the images with the smallest error; ratio: error / error of "
            "always answering the centre"
        ),
        images=describe_images(tested, "held out"),
    )


def _train(guard: str, batches: Any, config: Config) -> tuple[PositionRegressor, float, int]:
    """Gives a trained regressor, its training time in seconds, and its steps."""
    keras.utils.set_random_seed(config.seed)
    with dtype_policy("auto"):
        model = PositionRegressor(guard, seed=config.seed)
    model.compile(optimizer=keras.optimizers.Adam(config.learning_rate), jit_compile=False)
    budget = 10.0 if config.minutes is None and config.steps is None else config.minutes
    clock = TimeLimit(budget)
    total = config.steps or _ENDLESS

    def rate(progress: float) -> float:
        return config.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))

    schedule = ProgressSchedule(rate, lambda step: step / total if config.steps else clock.fraction)
    print(f"colour: {guard}", file=sys.stderr)
    model.fit(
        batches,
        steps_per_epoch=total,
        callbacks=[schedule, ProgressLine(clock, num_steps=config.steps), clock],
        shuffle=False,
        verbose=0,
    )
    return model, round(clock.elapsed_seconds, 1), schedule.step


def _held_out(manifest: Manifest, config: Config) -> Any:
    """Gives one batch for each held-out photograph, the same for every guard."""
    settings = PositionConfig(
        strength=config.strength, images_per_batch=1, patches_per_image=config.patches_per_image
    )
    return position_batches(manifest, settings, seed=config.seed + 1, num_steps=len(manifest))


def _clearest(true: np.ndarray, predicted: np.ndarray) -> int:
    """Gives the number of the image whose patches are placed best, for the picture."""
    return int(np.square(true - predicted).sum(-1).mean(-1).argmin())


def _picture(models: dict[str, PositionRegressor], batch: dict[str, Any]) -> np.ndarray:
    """Shows the patches of one photograph at the places where each regressor puts them."""
    size = batch["sizes"][0].numpy()
    image = batch["canvases"][0].numpy()[: size.prod()].reshape(*size, 3)
    cutter = models["none"].cutter
    patches = cutter(batch["canvases"], batch["sizes"], batch["corners"]).numpy()[:24]
    panels = []
    for guard, model in models.items():
        true, predicted = predict_positions(model, [batch])
        titles = ("where the patches are", f"where they are put, colour: {guard}")
        panels.append(
            patch_positions_picture(
                image, list(patches), true[0, :24], predicted[0, :24], titles=titles, height=300
            )
        )
    return np.concatenate(panels)


def report(config: Config) -> None:
    """Trains the regressors, and prints one table."""
    results = main(config)
    names = ("rmse", "rmse_centre", "ratio", "rmse_best10", "rmse_centre_best10", "steps")
    rows = {guard: [results[guard][name] for name in names] for guard in GUARDS}
    title = f"place of a patch, {config.strength:g} pixels of aberration -> {config.out}"
    headings = ("error", "of the centre", "ratio", "best 10 %", "of the centre", "steps")
    print_table(title, rows, ("colour", *headings))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
