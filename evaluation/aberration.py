"""How much of a patch's place chromatic aberration gives away (Doersch et al. 2015, section 4.2).

    python -m evaluation.aberration --images PHOTOS --images MORE.tar --out results/aberration
    python -m evaluation.aberration --images PHOTOS --run runs/photos --module features \
        --no-regressors --out results/aberration

Adds lateral aberration to photographs and trains three regressors from a patch to its (x, y): with
colours as they are, with green-magenta projected out, and with colours dropped. Ten minutes each by
default (see the README for our figures; one minute shows the effect already). Published, on
ImageNet's own aberration and the best 10 % of images: an error of .255, .321 with projection, .371
for always answering the centre. `aberration.png` shows an image's patches where each regressor
puts them (figure 5), for the held-out photograph that the first of them reads best.

With `--run` or `--module` it also measures how much of the place that network's *frozen* features
give away, on the same photographs, colours as they are: a ridge regression from features to (x, y).
One or two minutes a network on two cores; `--no-regressors` leaves it at that.
Places follow from content, too (sky is above): read it beside the untrained network, and beside
`--strength 0`.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from evaluation.checks import check_counts, check_positive, check_seed
from evaluation.networks import load_networks
from evaluation.position_features import FeaturePositions
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    track,
    write_results,
)
from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.context.aberration import (
    PositionConfig,
    PositionRegressor,
    position_batches,
    position_errors,
    predict_positions,
)
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.layers import PatchCutter
from keras_ctxattr.pictures import patch_positions_picture, write_png
from keras_ctxattr.runs.callbacks import ProgressLine, ProgressSchedule, TimeLimit
from training.flags import parse_flags, run_script

GUARDS = ("none", "project", "drop")
_ENDLESS = 10**9
_MAX_PATCHES = 20_000  # of the training photographs, to learn places from features


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to train on, and for how long.

    Attributes:
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated.
        out: folder of results.json and aberration.png.
        run: run folder of training.pretrain_context: its features, too, and those of the same
            network untrained.
        module: folder of an exported module: its features, too; may be repeated.
        regressors: whether to train the three regressors.
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
    run: Path | None = None
    module: list[Path] = dataclasses.field(default_factory=list)
    regressors: bool = True
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
        if not self.regressors and not self.run and not self.module:
            raise ValueError("Give `--run` or `--module` with `--no-regressors`, or leave that out")
        check_positive(self, "minutes", "learning_rate")
        check_counts(self, "patches_per_image")
        if self.steps is not None:
            check_counts(self, "steps")
        check_seed(self)
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"`--held-out` must be a share between 0 and 1. Received: {self.held_out}"
            )
        if not 0 <= self.strength < math.inf:
            raise ValueError(
                "`--strength` must be a finite number of pixels, 0 or more. "
                f"Received: {self.strength}"
            )


def main(config: Config) -> dict[str, Any]:
    """Trains the regressors, writes results and picture, and gives the results."""
    out = check_folder(config.out)
    networks, patch_size = (
        load_networks(config.run, config.module, config.seed)
        if config.run or config.module
        else ({}, PositionConfig().patch_size)
    )
    settings = PositionConfig(strength=config.strength, patch_size=patch_size)
    manifest = settings.grids.mark_too_small(collect(config.images)).usable()
    training, tested = manifest.split(config.held_out)
    models, facts = _learn(networks, training, settings, config)
    held_out = _single_images(tested, settings, config, config.seed + 1, len(tested))
    values, clearest = _score(models, held_out, len(tested))
    write_png(out / "aberration.png", _picture(models, held_out, clearest, patch_size))
    return write_results(
        out,
        {
            **{name: {**values[name], **facts[name]} for name in models},
            "strength": config.strength,
            "num_training_images": len(training),
        },
        script="evaluation.aberration",
        config=config,
        protocol=(
            f"lateral aberration of {config.strength} pixels at the corners added to all "
            f"photographs; {config.patches_per_image} random patches of each held-out photograph; "
            "Euclidean root mean square error in fractions of the image's width and height; "
            "best10: the tenth of the images with the smallest error; ratio: error / error of "
            "always answering the centre; features: ridge regression from frozen features brought "
            "to length 1, colours as they are"
        ),
        images=describe_images(tested, "held out"),
    )


def _learn(
    networks: dict[str, Callable[..., Any]],
    training: Manifest,
    settings: PositionConfig,
    config: Config,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Gives everything that tells places, by name, and facts about how it was learnt."""
    models: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    if config.regressors:
        batches = position_batches(training, settings, seed=config.seed)
        for guard in GUARDS:
            models[guard], facts[guard] = _train(guard, batches, settings, config)
    if networks:
        num_images = min(len(training), max(2, _MAX_PATCHES // config.patches_per_image))
        samples = _single_images(training, settings, config, config.seed, num_images)
    for name, describe in networks.items():
        tracked = track(samples, num_images, f"photographs, features of {name}")
        model = FeaturePositions(describe, settings.patch_size).fit(tracked)
        title, num_patches = f"features of {name}", num_images * config.patches_per_image
        models[title] = model
        facts[title] = {"num_training_patches": num_patches, "penalty": model.penalty}
    return models, facts


def _train(
    guard: str, batches: Any, settings: PositionConfig, config: Config
) -> tuple[PositionRegressor, dict[str, Any]]:
    """Gives a trained regressor, and how long it was trained."""
    keras.utils.set_random_seed(config.seed)
    with dtype_policy("auto"):
        model = PositionRegressor(guard, patch_size=settings.patch_size, seed=config.seed)
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
    return model, {"training_seconds": round(clock.elapsed_seconds, 1), "steps": schedule.step}


def _single_images(
    manifest: Manifest, settings: PositionConfig, config: Config, seed: int, num_images: int
) -> Any:
    """Gives one batch for each photograph, the same for every model."""
    single = dataclasses.replace(
        settings, images_per_batch=1, patches_per_image=config.patches_per_image
    )
    return position_batches(manifest, single, seed=seed, num_steps=num_images)


def _score(
    models: dict[str, Any], held_out: Any, num_images: int
) -> tuple[dict[str, dict[str, float]], int]:
    """Gives each model's errors, and the image whose patches the first model places best."""
    values = {}
    clearest = None
    for name, model in models.items():
        tracked = track(held_out, num_images, f"photographs, {name}")
        true, predicted = predict_positions(model, tracked)
        values[name] = position_errors(true, predicted)
        if clearest is None:
            clearest = int(np.square(true - predicted).sum(-1).mean(-1).argmin())
    return values, clearest or 0


def _picture(
    models: dict[str, Any], held_out: Any, number: int, patch_size: int, most: int = 24
) -> np.ndarray:
    """Shows the patches of one photograph at the places where each model puts them."""
    batch = next(iter(held_out.skip(number)))
    size = batch["sizes"][0].numpy()
    image = batch["canvases"][0].numpy()[: size.prod()].reshape(*size, 3)
    cutter = PatchCutter(patch_size, jitter=0)
    patches = cutter(batch["canvases"], batch["sizes"], batch["corners"]).numpy()[:most]
    panels = []
    for name, model in models.items():
        true, predicted = predict_positions(model, [batch])
        what = f"colour: {name}" if name in GUARDS else name
        titles = ("where the patches are", f"where they are put, {what}")
        panels.append(
            patch_positions_picture(
                image, list(patches), true[0, :most], predicted[0, :most], titles=titles, height=300
            )
        )
    return np.concatenate(panels)


def report(config: Config) -> None:
    """Trains the regressors, and prints one table."""
    results = main(config)
    names = ("rmse", "rmse_centre", "ratio", "rmse_best10", "rmse_centre_best10", "steps")
    scored = {name: one for name, one in results.items() if isinstance(one, dict) and "rmse" in one}
    rows = {title: [one.get(name) for name in names] for title, one in scored.items()}
    title = f"place of a patch, {config.strength:g} pixels of aberration -> {config.out}"
    headings = ("error", "of the centre", "ratio", "best 10 %", "of the centre", "steps")
    print_table(title, rows, ("colour, or features", *headings))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
