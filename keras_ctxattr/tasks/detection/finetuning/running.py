"""Learns detection in a run folder; the same call again goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ctxattr.runs import Run
from keras_ctxattr.runs.callbacks import StepCallback, fit_steps
from keras_ctxattr.tasks.detection.finetuning.methods import (
    METHODS,
    Detector,
    Method,
    make_method,
)
from keras_ctxattr.tasks.detection.finetuning.proposing import propose_nothing
from keras_ctxattr.tasks.detection.finetuning.scoring import score_photographs, stems_of
from keras_ctxattr.tasks.detection.formats import Detections, write_voc_results
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.starting import Start, weights_digest
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork

KIND = "detection"
DETECTOR = "detector"
RESULTS = "detections"
EPOCH = 100  # steps over which metrics are means, where nothing is evaluated

Proposing = Callable[[BoxedPhotographs], Sequence[np.ndarray]]


def finetune_detection(
    training: BoxedPhotographs,
    tested: BoxedPhotographs | None,
    folder: str | Path,
    features: FeatureNetwork,
    recipe: Any,
    *,
    method: str = "fast_rcnn",
    start: Start | None = None,
    propose: Proposing | None = None,
    seed: int = 0,
    evaluate_every: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Learns to detect the objects of photographs; the same call again resumes.

    The folder will hold `detector`, for `load_detector`, and `detections`, the results on the
    tested photographs as VOC's development kit reads them.

    Args:
        training: what is learnt from.
        tested: what detections are scored on; None for the training photographs themselves.
        folder: the run folder.
        features: the network to start from.
        recipe: of the method.
        method: `"fast_rcnn"`, `"rcnn"` or `"retinanet"`.
        start: how weights begin; transferred and rescaled if None.
        propose: gives for each photograph float32 `[n, 4]`, where objects may be; RetinaNet needs
            none.
        seed: of weights and draws, 0 to 2**31 - 1.
        evaluate_every: steps between evaluations on the way; None for at the end only.
        callbacks: further Keras callbacks, called first.
        progress: called with (photographs done, photographs in all) at the last evaluation.

    Returns:
        `steps`, `initialization` (how rescaling went), `num_training_photographs`, and what
        `score_photographs` gives.

    Raises:
        ValueError: if an argument is impossible.
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.
    """
    start = start or Start()
    chosen = make_method(method, features, recipe, start, seed)
    if chosen.needs_proposals and propose is None:
        raise ValueError(f"`propose` must be given for {method}. Received: None")
    config = {
        "method": method,
        "recipe": dataclasses.asdict(recipe),
        "start": dataclasses.asdict(start),
        "seed": seed,
        "network": features.name,
        "weights": weights_digest(features.model),
        "training": training.manifest.digest(),
        "tested": None if tested is None else tested.manifest.digest(),
        "class_names": list(training.class_names),
        "evaluate_every": evaluate_every,
    }
    with Run.open(folder, config, kind=KIND) as run:
        if run.finished:
            return run.summary
        job = _Job(run, chosen, training, tested or training, propose or propose_nothing, seed)
        initialization = job.train(evaluate_every, callbacks)
        detector = chosen.finish(job.model, training, job.proposals)
        detections = detector.detect(job.tested, job.tested_proposals, progress)
        summary = {
            "steps": recipe.optimizer_steps,
            "initialization": initialization,
            "num_training_photographs": len(training),
            **score_photographs(detections, job.tested),
        }
        with run.writing(DETECTOR) as partial:
            partial.mkdir()
            detector.save(partial)
        if not run.place(RESULTS).exists():
            stems = stems_of(job.tested)
            write_voc_results(run.place(RESULTS), detections, stems, training.class_names)
        run.finish(summary)
    return summary


@dataclasses.dataclass
class _Job:
    """One process's share of a run."""

    run: Run
    method: Method
    training: BoxedPhotographs
    tested: BoxedPhotographs
    propose: Proposing
    seed: int

    def __post_init__(self) -> None:
        self.proposals = self.propose(self.training)
        same = self.tested is self.training
        self.tested_proposals = self.proposals if same else self.propose(self.tested)
        self.model = self.method.build(len(self.training.class_names))
        self.resumed = self.run.restore(self.model)

    def batches(self, step: int) -> Any:
        """Gives the training batches from a step on."""
        return self.method.batches(self.training, self.proposals, step)

    def train(
        self, evaluate_every: int | None, callbacks: Sequence[keras.callbacks.Callback]
    ) -> dict[str, Any]:
        """Trains to the end, and tells how weights began."""
        recipe = self.method.recipe
        told = self.resumed.state.get("initialization", {}) if self.resumed else None
        if told is None:
            print("Setting the first weights.", file=sys.stderr, flush=True)
            told = self.method.initialize(self.model, self.batches(0))
        watching = [*callbacks]
        if evaluate_every:
            watching.append(_Scores(self._detect_now, self.tested))
        fit_steps(
            self.model,
            self.batches,
            self.run,
            num_steps=recipe.optimizer_steps,
            epoch_size=evaluate_every or min(EPOCH, recipe.optimizer_steps),
            rate_at=recipe.rate_at,
            checkpoint_minutes=recipe.checkpoint_minutes,
            resumed=self.resumed,
            callbacks=watching,
            state=lambda: {"initialization": told},
        )
        return told

    def _detect_now(self) -> list[Detections]:
        return self.method.detector(self.model).detect(self.tested, self.tested_proposals)


class _Scores(StepCallback):
    """Adds mean average precision to what `fit` logs after every epoch."""

    def __init__(
        self, detect: Callable[[], list[Detections]], photographs: BoxedPhotographs
    ) -> None:
        super().__init__()
        self.detect, self.photographs = detect, photographs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Detects and scores."""
        super().on_epoch_end(epoch, logs)
        scores = score_photographs(self.detect(), self.photographs)
        if logs is not None:
            logs |= {name: scores[name] for name in ("map_voc07", "map_voc12")}


def load_detector(folder: str | Path) -> tuple[Detector, tuple[str, ...]]:
    """Gives the detector that a finished run has learnt, and the names of its classes.

    Args:
        folder: the run folder.

    Raises:
        RunError: if there is no such run.
        ValueError: if it is not finished.
    """
    run = Run.read(folder, kind=KIND)
    if not run.finished:
        raise ValueError(
            f"The run must be finished: give its training command again. Received: {folder}"
        )
    kind = METHODS[run.config["method"]]
    stored = run.config["recipe"]
    recipe = kind.recipe(
        **{field.name: stored[field.name] for field in dataclasses.fields(kind.recipe)}
    )
    return kind.detector.load(run.path / DETECTOR, recipe), tuple(run.config["class_names"])
