"""What each layer of a network knows of objects: a linear classifier of their boxes.

    python -m evaluation.box_probe --backbone MODULE --data VOCdevkit --out results/probe

The photographs are divided in halves. Every object's box is max-pooled from a layer's map in 3x3
bins, as Fast R-CNN pools regions, and a ridge classifier, its penalty chosen by leaving one out,
learns the classes of one half and ranks the boxes of the other by each: mean average precision of
classification. Beside the same network with fresh weights. Writes results.json and box_probe.png.
Minutes for 130 photographs on two cores.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.checks import check_counts, check_seed
from evaluation.report import (
    check_folder,
    describe_images,
    print_table,
    track,
    write_results,
)
from keras_ctxattr.backbones.conversion.activations import activation_maps
from keras_ctxattr.cli.app import scan_progress
from keras_ctxattr.data.images import load_images
from keras_ctxattr.layers import CanvasProcessing, RegionMaxPooling2D
from keras_ctxattr.pictures import line_plot, write_png
from keras_ctxattr.tasks.detection.canvases import scale_image, scaled_size
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs, read_photographs
from keras_ctxattr.tasks.detection.starting import draw_weights
from keras_ctxattr.tasks.detection.transfer import (
    FeatureNetwork,
    measure_map,
    open_feature_network,
)
from training.flags import parse_flags, run_script

KINDS = ("trained", "untrained")
_BINS = 3
_MIN_BOXES = 5
_LONGER_SIDE = 500  # pixels that photographs are scaled to, VOC's own size
_PENALTIES = tuple(10.0**power for power in range(0, 7))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which network, on which objects.

    Attributes:
        backbone: as training.finetune_detection takes it; its layers must be reachable.
        data: VOCdevkit, a folder or archive below it, or annotations of COCO; may be repeated.
        out: folder of results.json and box_probe.png.
        image_set: list in ImageSets/Main.
        num_splits: divisions of the photographs, and fresh weights; their spread is shown.
        seed: of the first division.
    """

    backbone: str
    data: list[str]
    out: Path
    image_set: str = "trainval"
    num_splits: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_splits", at_least=2)
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Learns and scores all classifiers, writes everything, and gives the results."""
    out = check_folder(config.out)
    with scan_progress() as progress:
        photographs = read_photographs(config.data, config.image_set, progress=progress)
    features = open_feature_network(config.backbone)
    if not features.can_be_rescaled:
        raise ValueError(
            "`--backbone` must be a network whose layers can be reached, such as a module. "
            f"Received: {config.backbone}"
        )
    seeds = range(config.seed, config.seed + config.num_splits)
    describe = box_describer(features)
    known = describe_boxes(describe, photographs)
    precisions: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in KINDS} for name in known
    }
    classes, chance = _classes(photographs), []
    for seed in seeds:
        draw_weights(features.model, seed)
        fresh = describe_boxes(describe, photographs)
        halves = divide_boxes(photographs, seed)
        for name in known:
            precisions[name]["trained"].append(_probe(known[name], classes, halves))
            precisions[name]["untrained"].append(_probe(fresh[name], classes, halves))
        chance.append(_mean_over_classes(lambda _, there: there.mean(), classes, halves))
    for found in precisions.values():
        pairs = zip(found["trained"], found["untrained"], strict=True)
        found["gain"] = [one - other for one, other in pairs]
    values: dict[str, Any] = {
        "layers": {name: _summarize(found) for name, found in precisions.items()}
    }
    values["chance"] = _summarize({"share": chance})
    out.mkdir(parents=True, exist_ok=True)
    write_png(out / "box_probe.png", _picture(values))
    return write_results(
        out,
        values,
        script="evaluation.box_probe",
        config=config,
        protocol=(
            f"photographs of {_LONGER_SIDE} pixels; objects' boxes, difficult ones left out, "
            f"max-pooled in {_BINS}x{_BINS} bins; ridge classifier on standardised features; mean "
            f"average precision of classes with {_MIN_BOXES} boxes or more in both halves; "
            f"{config.num_splits} halves of the photographs"
        ),
        images=describe_images(photographs.manifest, f"{config.image_set} of the data"),
    )


Describer = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""From a photograph uint8 `[height, width, 3]` and boxes float32 `[n, 4]` in its pixels to every
layer's features of the boxes, float32 `[n, features]`."""


def box_describer(features: FeatureNetwork) -> Describer:
    """Gives the function that pools boxes from the map of every activation of a network."""
    inputs, outputs = features.model.inputs[0], activation_maps(features.model)
    whole = keras.Model(inputs, outputs)
    pools = {name: _pool(keras.Model(inputs, output)) for name, output in outputs.items()}
    processing = CanvasProcessing(**features.processing)

    @tf.function(reduce_retracing=True, autograph=False)
    def describe(image: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        size = scaled_size(tf.shape(image)[:2], _LONGER_SIDE)
        scaled = scale_image(image, size)[None]
        scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
        own = (boxes * tf.tile(scale[::-1], [2]))[None]
        maps = whole(processing(scaled, size[None]))
        pooled = {name: pool(maps[name], own)[0] for name, pool in pools.items()}
        return {name: tf.reshape(one, [tf.shape(one)[0], -1]) for name, one in pooled.items()}

    return describe


def _pool(part: keras.Model) -> RegionMaxPooling2D:
    stride, offset = measure_map(part)
    max_cells = int(_LONGER_SIDE // stride) + 2
    return RegionMaxPooling2D(_BINS, stride, offset, max_cells, dtype="float32")


def describe_boxes(describe: Describer, photographs: BoxedPhotographs) -> dict[str, np.ndarray]:
    """Gives every layer's features of all boxes that are not difficult.

    Returns:
        Name of a layer -> float32 `[boxes, features]`, photograph by photograph.
    """
    rows: list[dict[str, np.ndarray]] = []
    images = load_images(photographs.manifest)
    listed = zip(images, photographs.objects, strict=True)
    for one, (boxes, _, difficult) in track(listed, len(photographs), "photographs"):
        found = describe(one["image"], tf.constant(boxes[~difficult]))
        rows.append({name: values.numpy() for name, values in found.items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def divide_boxes(photographs: BoxedPhotographs, seed: int) -> np.ndarray:
    """Tells of every box that is not difficult whether its photograph is in the first half.

    Returns:
        bool `[boxes]`, photograph by photograph.
    """
    order = np.random.default_rng(seed).permutation(len(photographs))
    is_first = order < len(photographs) // 2
    counts = [int((~difficult).sum()) for difficult in photographs.difficult]
    return np.repeat(is_first, counts)


def _classes(photographs: BoxedPhotographs) -> np.ndarray:
    objects = photographs.objects
    return np.concatenate([classes[~difficult] for _, classes, difficult in objects])


def _probe(found: np.ndarray, classes: np.ndarray, is_first: np.ndarray) -> float:
    """Gives mean average precision on the second half."""
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(_PENALTIES))
    classifier.fit(found[is_first], classes[is_first])
    scores = classifier.decision_function(found[~is_first])
    if scores.ndim == 1:  # of two classes
        scores = np.stack([-scores, scores], axis=1)
    column = {kind: scores[:, place] for place, kind in enumerate(classifier.classes_)}
    return _mean_over_classes(
        lambda kind, there: average_precision_score(there, column[kind]), classes, is_first
    )


def _mean_over_classes(
    figure: Callable[[int, np.ndarray], float], classes: np.ndarray, is_first: np.ndarray
) -> float:
    """Gives the mean of a figure, called with a class and whether each box is of it."""
    counts = [np.bincount(classes[half], minlength=classes.max() + 1) for half in _both(is_first)]
    common = np.flatnonzero(np.minimum(*counts) >= _MIN_BOXES)
    if not len(common):
        raise ValueError(
            f"`--data` must have a class with {_MIN_BOXES} boxes or more in both halves of the "
            "photographs. Received: none"
        )
    return float(np.mean([figure(int(kind), classes[~is_first] == kind) for kind in common]))


def _both(is_first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return is_first, ~is_first


def _summarize(found: dict[str, list[float]]) -> dict[str, float]:
    return {
        f"{name}_{what}": float(measure(values))
        for name, values in found.items()
        for what, measure in (("mean", np.mean), ("std", np.std))
    }


def _picture(values: dict[str, Any]) -> np.ndarray:
    layers = values["layers"]
    places = list(range(1, len(layers) + 1))
    lines = {name: (places, [one[f"{name}_mean"] for one in layers.values()]) for name in KINDS}
    return line_plot(
        lines,
        title="boxes ranked by class",
        x_label="layer",
        y_label="mAP",
        levels={"chance": values["chance"]["share_mean"]},
    )


def report(results: dict[str, Any]) -> None:
    """Prints the table."""
    columns = (*KINDS, "gain")  # the gain of each pair of halves, so that their spread falls out
    rows = {
        name: [f"{one[f'{kind}_mean']:.3f} +- {one[f'{kind}_std']:.3f}" for kind in columns]
        for name, one in results["layers"].items()
    }
    print_table("mean average precision of boxes by class", rows, ("", *columns))
    print(f"a ranking by chance: {results['chance']['share_mean']:.3f}")


if __name__ == "__main__":
    run_script(lambda config: report(main(config)), parse_flags(Config, sys.argv[1:]))
