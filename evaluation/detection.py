"""How well a detector finds the objects of annotated photographs, by the rules of VOC and COCO.

    python -m evaluation.detection --run runs/detect --data VOCdevkit --image-set test --out results

Writes `results.json` (mean average precision of VOC 2007 and of 2010 on, that of every class, and
COCO's where pycocotools is installed), `detections.png`, and the detections themselves: `voc/`, as
VOC's development kit reads them, and `coco.json`. To score the photographs that a training held
out, give its `--data`, and `--held-out` and `--split-seed` as it had them. A few photographs a
second on two cores, once their proposals are there.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts
from evaluation.report import check_folder, describe_images, print_table, write_results
from keras_ctxattr.cli.app import scan_progress, show_progress
from keras_ctxattr.data.images import load_images
from keras_ctxattr.pictures import write_png
from keras_ctxattr.pictures.detections import DrawnBoxes, detections_sheet
from keras_ctxattr.tasks.detection import metrics
from keras_ctxattr.tasks.detection.coco_scores import has_coco_program, score_coco
from keras_ctxattr.tasks.detection.finetuning import (
    load_detector,
    propose_for_run,
    propose_nothing,
    score_photographs,
)
from keras_ctxattr.tasks.detection.finetuning.scoring import stems_of
from keras_ctxattr.tasks.detection.formats import (
    Detections,
    write_coco_results,
    write_voc_results,
)
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs, read_photographs
from training.flags import parse_flags, run_script

_KINDS = {
    metrics.WRONG: "wrong",
    metrics.RIGHT: "right",
    metrics.DUPLICATE: "duplicate",
    metrics.IGNORED: "ignored",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which detector, on which photographs.

    Attributes:
        run: run folder of training.finetune_detection.
        data: VOCdevkit, a folder or archive below it, or annotations of COCO; may be repeated.
        out: folder of results.json, detections.png, voc and coco.json.
        image_set: list in ImageSets/Main.
        held_out: scores on that share of the photographs alone which a training with the same
            number held out; on all if not given.
        split_seed: as the training had it.
        proposals: folder in which proposals are kept; that of the training if not given.
        proposal_mode: fast or quality: of selective search.
        num_rows: rows of three photographs in the picture.
        min_score: the least score of a detection in the picture.
        seed: of the photographs in the picture.
    """

    run: Path
    data: list[str]
    out: Path
    image_set: str = "trainval"
    held_out: float | None = None
    split_seed: int = 0
    proposals: Path | None = None
    proposal_mode: str = "fast"
    num_rows: int = 4
    min_score: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_rows")
        if self.held_out is not None and not 0 < self.held_out < 1:
            raise ValueError(f"`--held-out` must lie between 0 and 1. Received: {self.held_out}")


def main(config: Config) -> dict[str, Any]:
    """Detects, scores, writes everything, and gives the results."""
    out = check_folder(config.out)
    detector, class_names = load_detector(config.run)
    photographs = _read(config, class_names)
    proposals = _propose(config, photographs, detector)
    began = time.perf_counter()
    with show_progress("detecting") as progress:
        detections = detector.detect(photographs, proposals, progress)
    seconds = time.perf_counter() - began
    values = score_photographs(detections, photographs)
    values |= _score_coco(detections, photographs)
    values["photographs_per_second"] = len(photographs) / seconds
    _write(config, detections, photographs)
    return write_results(
        out,
        values,
        script="evaluation.detection",
        config=config,
        protocol=(
            "VOC: overlap over .5, difficult objects neither hit nor miss, duplicates wrong; "
            "map_voc07 of 11 points, map_voc12 the area; classes without objects left out; "
            "COCO: pycocotools, difficult objects as crowds"
        ),
        images=describe_images(photographs.manifest, f"{config.image_set} of the data"),
    )


def _score_coco(
    detections: Sequence[Detections], photographs: BoxedPhotographs
) -> dict[str, float]:
    """Gives COCO's figures, those left out that no object counts for; none without its program."""
    if not has_coco_program():
        return {}
    found = score_coco(detections, photographs)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _read(config: Config, class_names: Sequence[str]) -> BoxedPhotographs:
    with scan_progress() as progress:
        photographs = read_photographs(
            config.data, config.image_set, class_names=class_names, progress=progress
        )
    if config.held_out is None:
        return photographs
    return photographs.split(config.held_out, seed=config.split_seed)[1]


def _propose(config: Config, photographs: BoxedPhotographs, detector: Any) -> list[np.ndarray]:
    if not detector.needs_proposals:
        return propose_nothing(photographs)
    with show_progress("searching for proposals") as progress:
        return propose_for_run(
            config.run,
            photographs,
            folder=config.proposals,
            mode=config.proposal_mode,
            progress=progress,
        )


def _write(config: Config, detections: Sequence[Detections], photographs: BoxedPhotographs) -> None:
    """Writes the picture and the detections."""
    config.out.mkdir(parents=True, exist_ok=True)
    write_png(config.out / "detections.png", _picture(config, detections, photographs))
    names = photographs.class_names
    if not (config.out / "voc").exists():
        write_voc_results(
            config.out / "voc",
            detections,
            stems_of(photographs),
            names,
            image_set=config.image_set,
        )
    ids = range(1, len(photographs) + 1)
    write_coco_results(config.out / "coco.json", detections, ids, range(1, len(names) + 1))


def _picture(
    config: Config, detections: Sequence[Detections], photographs: BoxedPhotographs
) -> np.ndarray:
    """Shows photographs drawn at random, with what was found and what was missed."""
    generator = np.random.default_rng(config.seed)
    count = min(3 * config.num_rows, len(photographs))
    rows = np.sort(generator.permutation(len(photographs))[:count])
    shown = photographs.select(rows)
    images = [one["image"].numpy() for one in load_images(shown.manifest)]
    drawn = draw_verdicts([detections[row] for row in rows], shown, config.min_score)
    return detections_sheet(images, drawn, captions=stems_of(shown))


def draw_verdicts(
    detections: Sequence[Detections], photographs: BoxedPhotographs, min_score: float
) -> list[DrawnBoxes]:
    """Gives what to draw: detections over a score with what they are, and the objects missed."""
    kept = [_above(one, min_score) for one in detections]
    boxes: list[list[np.ndarray]] = [[] for _ in kept]
    labels: list[list[str]] = [[] for _ in kept]
    kinds: list[list[str]] = [[] for _ in kept]
    for number, name in enumerate(photographs.class_names):
        found = [_of_class(one, number) for one in kept]
        there = [
            (own[classes == number], difficult[classes == number])
            for own, classes, difficult in photographs.objects
        ]
        verdicts, hits = metrics.judge_detections(found, there)
        for image, (one, verdict, objects, hit) in enumerate(
            zip(found, verdicts, there, hits, strict=True)
        ):
            missed = ~hit
            boxes[image] += [*objects[0][missed], *one[0]]
            hard = objects[1][missed]
            kinds[image] += ["difficult" if is_hard else "missed" for is_hard in hard]
            kinds[image] += [_KINDS[value] for value in verdict]
            labels[image] += [name] * len(hard) + [f"{name} {score:.2f}" for score in one[1]]
    return [
        DrawnBoxes(boxes=np.reshape(own, (-1, 4)), labels=texts, kinds=what)
        for own, texts, what in zip(boxes, labels, kinds, strict=True)
    ]


def _above(one: Detections, min_score: float) -> Detections:
    kept = one.scores >= min_score
    return Detections(boxes=one.boxes[kept], scores=one.scores[kept], classes=one.classes[kept])


def _of_class(one: Detections, number: int) -> tuple[np.ndarray, np.ndarray]:
    own = one.classes == number
    return one.boxes[own], one.scores[own]


def _report(config: Config) -> None:
    results = main(config)
    names = ("map_voc07", "map_voc12", "coco_ap", "coco_ap50", "photographs_per_second")
    print_table("detection", {name: [results.get(name)] for name in names}, ("", "value"))


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
