"""From a folder of photographs to a module with attributes of them: every stage, in one call."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ctxattr.clustering import (
    AlternationRecipe,
    TooFewClustersError,
    alternate_clusters,
    open_rounds,
)
from keras_ctxattr.context.recipe import ContextRecipe
from keras_ctxattr.context.training import load_predictor, train_context
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.pipeline.attributes import MIN_SAMPLES, vector_recipe
from keras_ctxattr.pipeline.photographs import (
    CODES,
    DescribingProgress,
    learn_photo_attributes,
)
from keras_ctxattr.pipeline.pictures import ATTRIBUTES, NEIGHBOURS, draw_pictures
from keras_ctxattr.pipeline.plan import Plan, make_plan, measure_pace
from keras_ctxattr.runs import Run, write_json

KIND = "learn"
IMAGES = "images.sqlite"
PLAN = "plan.json"
BACKBONE = "backbone.keras"

Progress = Callable[[int, int | None], None]
Report = Callable[[str], None]

_STAGES = {
    "context": "a network learns where patches lie beside each other",
    "clusters": "patches that look alike are found, and the network learns to tell them apart",
    "attributes": "photographs are described, and bits learnt that those alike share",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learnt:
    """What was made of a collection.

    Attributes:
        num_photographs: that have a code.
        seconds: that each stage took, over all calls; what a killed call was at is not in it.
        module: folder of the SavedModel: features, attributes, codes.
        codes: `.npy` file of the packed codes.
        neighbours: PNG of photographs and those with the nearest codes.
        attributes: PNG of the photographs on both sides of the attributes.
    """

    num_photographs: int
    seconds: dict[str, float]
    module: Path
    codes: Path
    neighbours: Path
    attributes: Path


def learn_from_photographs(
    photographs: Sequence[str | Path],
    folder: str | Path,
    *,
    hours: float | None = None,
    num_attributes: int = 64,
    seed: int = 0,
    recipe: AlternationRecipe | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Learnt:
    """Learns attributes of photographs, stage after stage; the same call again goes on.

    The time is measured on this machine first, shared out among the stages, and told. The folder
    will hold a run folder for each stage (`context`, `clusters`, `attributes`), `neighbours.png`
    and `attributes.png`; `images.sqlite`, `plan.json`, `seconds.json`, `backbone.keras` and
    `thumbnails` are what calls that go on need. The module is `attributes/module`.

    Args:
        photographs: folders, archives, TFRecord files or `tfds:` names.
        folder: the run folder.
        hours: time for all stages on this machine; None takes an hour for training, and what
            describing the photographs takes.
        num_attributes: bits of a code, a multiple of 8.
        seed: seed of every draw, 0 to 2**31 - 1.
        recipe: network and patches; `learning_recipe()` if None.
        progress: called with (files looked at, files in all or None) while images are scanned.
        report: called with a line on every stage.

    Returns:
        What was made, and where it lies.

    Raises:
        ValueError: if an argument or the collection is unusable, or the time too short.
        RunError: if the folder holds another run.
        TrainingCollapsed: if a training failed for good.

    Reference:
        Doersch, Gupta, Efros 2015; Huang, Loy, Tang 2016.
    """
    recipe = recipe or learning_recipe()
    _check(hours, num_attributes, seed)
    config = {
        "images": [str(source) for source in photographs],
        "hours": hours,
        "num_attributes": num_attributes,
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
    }
    with Run.open(folder, config, kind=KIND) as run:
        learning = _Learning(run, photographs, num_attributes, seed, progress, report or _ignore)
        manifest = learning.scan(_context_recipe(recipe).grids)
        plan = learning.plan(len(manifest), hours, recipe)
        run.commit()
        stages: dict[str, Callable[[], Any]] = {
            "context": lambda: learning.predict_context(plan, recipe),
            "clusters": lambda: learning.find_clusters(plan, recipe),
            "attributes": lambda: learning.learn_attributes(manifest),
        }
        for name, stage in stages.items():
            learning.do(name, stage, plan)
        draw_pictures(run.path, manifest, seed)
        if not run.finished:
            run.finish({"num_photographs": learning.count(), "seconds": learning.seconds()})
        return Learnt(
            num_photographs=run.summary["num_photographs"],
            seconds=run.summary["seconds"],
            module=run.path / "attributes/module",
            codes=run.path / "attributes" / CODES,
            neighbours=run.path / NEIGHBOURS,
            attributes=run.path / ATTRIBUTES,
        )


def learning_recipe() -> AlternationRecipe:
    """Gives the network and the patches that `learn_from_photographs` takes."""
    return AlternationRecipe(features="hog", size=96, unit="random", backbone="compact")


def _ignore(line: str) -> None:
    """Says nothing."""


def _check(hours: float | None, num_attributes: int, seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must be from 0 to 2**31 - 1. Received: {seed}")
    if hours is not None and not 0 < hours < math.inf:
        raise ValueError(f"`hours` must be a finite number over 0. Received: {hours}")
    if num_attributes < 8 or num_attributes % 8:
        raise ValueError(
            "The number of bits must be a multiple of 8, so that codes are whole bytes. "
            f"Received: {num_attributes}"
        )


@dataclasses.dataclass
class _Learning:
    """One process's share of a run; stages that are done are not done again."""

    run: Run
    photographs: Sequence[str | Path]
    num_attributes: int
    seed: int
    progress: Progress | None
    report: Report

    def scan(self, grids: GridConfig) -> Manifest:
        """Gives the usable photographs; looks for them at the first start."""
        path = self.run.path / IMAGES
        if path.exists():
            return Manifest.load(path).usable()
        manifest = scan_images(list(self.photographs), progress=self.progress)
        large = grids.mark_too_small(manifest).usable()
        if len(large) < MIN_SAMPLES:
            raise ValueError(
                f"At least {MIN_SAMPLES} photographs must be usable, and large enough to learn "
                "from; `ctxattr check` says why others are not. Received: "
                f"{len(large)} of {len(manifest)} files"
            )
        with self.run.writing(IMAGES) as partial:
            manifest.save(partial)
        return manifest.usable()

    def plan(self, count: int, hours: float | None, recipe: AlternationRecipe) -> Plan:
        """Gives the plan, and tells it; it is made at the first start."""
        path = self.run.path / PLAN
        if path.exists():
            return Plan(**json.loads(path.read_text(encoding="utf-8")))
        self.report("Measuring how fast this machine is ...")
        plan = make_plan(count, measure_pace(recipe), hours)
        self.report(
            f"{count:,} photographs; about {_minutes(plan.total_seconds)} in all on this machine:"
        )
        for name, seconds in plan.seconds.items():
            self.report(f"  {name:10} about {_minutes(seconds):>10}   {_STAGES[name]}")
        write_json(self.run.place(PLAN), dataclasses.asdict(plan))
        return plan

    def do(self, name: str, stage: Callable[[], Any], plan: Plan) -> None:
        """Does a stage, if it is not done yet, and keeps its time."""
        done = self.seconds()
        if name in done:
            self.report(f"{name}: done before, in {_minutes(done[name])}.")
            return
        number = list(_STAGES).index(name) + 1
        self.report(
            f"Stage {number} of {len(_STAGES)}: {name}, about {_minutes(plan.seconds[name])}"
        )
        start = time.monotonic()
        stage()
        seconds = time.monotonic() - start
        write_json(self.run.place("seconds.json"), {**done, name: round(seconds, 1)})
        self.report(f"{name}: done in {_minutes(seconds)}.")

    def seconds(self) -> dict[str, float]:
        """Gives the time of each stage that is done."""
        path = self.run.path / "seconds.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def predict_context(self, plan: Plan, recipe: AlternationRecipe) -> None:
        """The first stage."""
        train_context(
            self.photographs,
            self.run.place("context"),
            _context_recipe(recipe),
            minutes=plan.context_minutes,
            seed=self.seed,
            progress=self.progress,
        )
        with self.run.writing(BACKBONE) as partial:
            load_predictor(self.run.path / "context").backbone.save(partial)

    def find_clusters(self, plan: Plan, recipe: AlternationRecipe) -> None:
        """The second stage."""
        chosen = dataclasses.replace(
            recipe,
            patches_per_image=plan.patches_per_image,
            copies=plan.copies,
        )
        try:
            alternate_clusters(
                self.photographs,
                self.run.place("clusters"),
                chosen,
                rounds=1,
                start=self.run.path / BACKBONE,
                seed=self.seed,
                progress=self.progress,
            )
        except TooFewClustersError:
            self.report("  Too few patches look alike: the network stays as it is.")

    def learn_attributes(self, manifest: Manifest) -> None:
        """The third stage."""
        # Kept or not: that compares the clusters of its features with those of hand-made ones. The
        # network has learnt more than context prediction alone taught it.
        last = open_rounds(self.run.path / "clusters")[-1]
        path = last.backbone_path or self.run.path / BACKBONE
        learn_photo_attributes(
            manifest,
            keras.saving.load_model(path),
            self.run.place("attributes"),
            vector_recipe(self.num_attributes),
            source=self._source(last.number),
            seed=self.seed,
            progress=DescribingProgress(self.report),
        )

    def _source(self, last_round: int) -> dict[str, Any]:
        """Gives what the module is to say of its photographs and its network."""
        context, clusters = (Run.read(self.run.path / name) for name in ("context", "clusters"))
        accuracy = context.summary["accuracy"]
        return {
            "images": self.run.config["images"],
            "network": {
                "context": {"config": context.config, "held_out_accuracy": accuracy},
                "clusters": {"config": clusters.config, "round": last_round},
            },
        }

    def count(self) -> int:
        """Gives the number of photographs that have a code."""
        return len(np.load(self.run.path / "attributes" / CODES))


def _context_recipe(recipe: AlternationRecipe) -> ContextRecipe:
    """Gives the recipe of context prediction for the same network."""
    return ContextRecipe(
        backbone=recipe.backbone,
        backbone_options=recipe.backbone_options,
        hidden_units=512,
        grids=dataclasses.replace(ContextRecipe().grids, patch_size=recipe.size),
    )


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
