"""Learns to detect objects from annotated photographs, starting from a trained network.

    python -m training.finetune_detection --data VOCdevkit --backbone MODULE --run runs/detect

The backbone is a module (`ctxattr learn`, `ctxattr export`), a run of training.pretrain_context, a
`.keras` file or any SavedModel that maps images to a map of features. The same command again
resumes a run that was interrupted, and says so where it is finished. The run folder then holds
the detector and the detections in the photographs held out, as VOC's development kit reads them.
Afterwards: `python -m evaluation.detection --run runs/detect --data VOCdevkit --out results`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.cli.app import scan_progress, show_progress
from training.configs import load_recipe
from training.flags import parse_flags, run_script

SMALL = {
    "fast_rcnn": "detection_fast_rcnn_small",
    "rcnn": "detection_rcnn_small",
    "retinanet": "detection_retinanet_small",
}
"""Method -> its recipe for minutes on a small machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to learn from, and how.

    Attributes:
        data: VOCdevkit, a folder or archive below it, or annotations of COCO (instances_*.json);
            may be repeated.
        backbone: network to start from; or untrained:alexnet, for its structure alone.
        run: run folder; made, or resumed.
        method: fast_rcnn, rcnn or retinanet.
        recipe: a file in training/configs/; one for small machines if not given.
        image_set: list in ImageSets/Main to learn from.
        test_data: data to score on, as --data; may be repeated.
        test_set: list in ImageSets/Main to score on; with it, nothing is held out of --image-set.
        held_out: share of the photographs that is scored on, where no test data are named; 0 scores
            on the photographs that are learnt from.
        split_seed: another number holds other photographs out.
        layer: name of the backbone's layer whose map to take.
        transfer: keeps the backbone's weights; else it starts from scratch.
        rescale: calibrates all layers on the photographs first (Kraehenbuehl et al. 2016).
        fresh: from what new layers start then: kmeans, pca or gaussian.
        proposals: folder in which proposals are kept, for any run to use; beside the run folder if
            not given.
        proposal_mode: fast or quality: of selective search.
        steps: overrides the recipe.
        learning_rate: overrides the recipe.
        box_regression: overrides the recipe: refines boxes.
        evaluate_every: steps between scores on the way; at the end only if not given.
        seed: seed of weights and draws, 0 to 2**31 - 1.
    """

    data: list[str]
    backbone: str
    run: Path
    method: str = "fast_rcnn"
    recipe: str | None = None
    image_set: str = "trainval"
    test_data: list[str] = dataclasses.field(default_factory=list)
    test_set: str | None = None
    held_out: float = 0.2
    split_seed: int = 0
    layer: str | None = None
    transfer: bool = True
    rescale: bool = True
    fresh: str = "kmeans"
    proposals: Path | None = None
    proposal_mode: str = "fast"
    steps: int | None = None
    learning_rate: float | None = None
    box_regression: bool | None = None
    evaluate_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what nothing else checks."""
        if self.method not in SMALL:
            raise ValueError(
                f"`--method` must be one of {', '.join(SMALL)}. Received: {self.method}"
            )
        if not 0 <= self.held_out < 1:
            raise ValueError(
                f"`--held-out` must be at least 0 and under 1. Received: {self.held_out}"
            )


def main(config: Config) -> dict[str, Any]:
    """Learns, or goes on, and gives the summary of the run."""
    from keras_ctxattr.tasks.detection.finetuning import finetune_detection
    from keras_ctxattr.tasks.detection.starting import Start
    from keras_ctxattr.tasks.detection.transfer import open_feature_network

    recipe = _choose_recipe(config)
    start = Start(transfer=config.transfer, rescale=config.rescale, fresh=config.fresh)
    features = open_feature_network(config.backbone, layer=config.layer, seed=config.seed)
    training, tested = _read(config)
    return finetune_detection(
        training,
        tested,
        config.run,
        features,
        recipe,
        method=config.method,
        start=start,
        propose=lambda photographs: _propose(config, photographs),
        seed=config.seed,
        evaluate_every=config.evaluate_every,
    )


def _choose_recipe(config: Config) -> Any:
    from keras_ctxattr.tasks.detection.finetuning import METHODS

    kind = METHODS[config.method].recipe
    given = {
        "optimizer_steps": config.steps,
        "learning_rate": config.learning_rate,
        "box_regression": config.box_regression,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    known = {field.name for field in dataclasses.fields(kind)}
    for name in chosen:
        if name not in known:
            raise ValueError(f"`--{name.replace('_', '-')}` does not belong to {config.method}.")
    return dataclasses.replace(load_recipe(config.recipe or SMALL[config.method], kind), **chosen)


def _read(config: Config) -> tuple[Any, Any]:
    """Gives (training, tested) photographs; tested is None where they are the same."""
    from keras_ctxattr.tasks.detection.photographs import read_photographs

    with scan_progress() as progress:
        training = read_photographs(config.data, config.image_set, progress=progress)
        if config.test_data or config.test_set:
            sources = config.test_data or config.data
            test_set = config.test_set or config.image_set
            return training, read_photographs(sources, test_set, progress=progress)
    if not config.held_out:
        return training, None
    return training.split(config.held_out, seed=config.split_seed)


def _propose(config: Config, photographs: Any) -> Sequence[np.ndarray]:
    from keras_ctxattr.tasks.detection.finetuning import propose_for_run

    with show_progress("searching for proposals") as progress:
        return propose_for_run(
            config.run,
            photographs,
            folder=config.proposals,
            mode=config.proposal_mode,
            progress=progress,
        )


def _report(config: Config) -> None:
    summary = main(config)
    print(
        f"{config.run}: {summary['steps']} steps on {summary['num_training_photographs']} "
        f"photographs; mAP {summary['map_voc07']:.1%} (VOC 2007's 11 points), "
        f"{summary['map_voc12']:.1%} (area) on {summary['num_photographs']} photographs with "
        f"{summary['num_objects']} objects."
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
