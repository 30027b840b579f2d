"""Detection, beside the plainest way to do the same.

- `proposals_fast`, `proposals_quality`: photographs of 375x500 pixels that `propose_boxes` searches
  in a second of one processor, over those that OpenCV's selective search does alone.
- `proposals_fast_boxes`, `proposals_quality_boxes`: boxes in a second of one processor.
- `fast_rcnn`: photographs of 375x500 pixels a second whose 200 proposals the network tells apart on
  one shared map, over those where every proposal is cut out, scaled to 227 pixels and goes through
  the same convolutions by itself (R-CNN). AlexNet, regions of 6x6, 4096 units in fc6 and fc7, the
  same weights on both sides; proposals are given.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import tensorflow as tf

from evaluation.speed_context import Measurements
from keras_ctxattr.backbones.precision import resolve_policy
from keras_ctxattr.data.images import load_images
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.tasks.detection.fast_rcnn import FastRcnnRecipe, fast_rcnn_network
from keras_ctxattr.tasks.detection.proposals import has_selective_search, propose_boxes
from keras_ctxattr.tasks.detection.proposals.selective_search import MODES
from keras_ctxattr.tasks.detection.transfer import for_inference, open_feature_network

_SIZE = (500, 375)  # width and height of most photographs of VOC
_NUM_REGIONS = 200
_CROP = 227  # pixels that R-CNN scales a proposal to

Classify = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is searched.

    Attributes:
        images: photographs: folders or archives.
        num_images: how many of them, spread over all.
        rounds: alternations of the sides.
    """

    images: Sequence[str]
    num_images: int = 4
    rounds: int = 2


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    found = measure_proposals(workload) if has_selective_search() else {}
    return {**found, **measure_fast_rcnn(workload)}


def measure_fast_rcnn(workload: Workload) -> Measurements:
    """Gives the figure of Fast R-CNN."""
    shared, apart = _networks()
    photographs = _read(workload)
    regions = _draw_regions(len(photographs))
    seconds: dict[str, list[float]] = {"shared": [], "apart": []}
    for number in range(workload.rounds + 1):  # the first round compiles
        for side, classify in (("shared", shared), ("apart", apart)):
            began = time.perf_counter()
            for image, boxes in zip(photographs, regions, strict=True):
                np.asarray(classify(tf.constant(image[None]), tf.constant(boxes[None])))
            if number:
                seconds[side].append(time.perf_counter() - began)
    value, baseline = (
        len(photographs) / float(np.median(seconds[side])) for side in ("shared", "apart")
    )
    return {"fast_rcnn": {"value": value, "baseline": baseline, "ratio": value / baseline}}


def _networks() -> tuple[Classify, Classify]:
    """Gives both ways from (images, regions) to logits, with the same weights."""
    recipe = FastRcnnRecipe(hidden_units=4096, min_side=min(_SIZE), max_side=max(_SIZE))
    features = open_feature_network("untrained:alexnet")
    network = for_inference(fast_rcnn_network(features, 20, recipe, policy=resolve_policy("auto")))

    @tf.function(reduce_retracing=True, autograph=False)
    def shared(images: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        sizes = tf.shape(images)[None, 1:3]
        return network({"images": images, "sizes": sizes, "regions": regions})["logits"]

    @tf.function(reduce_retracing=True, autograph=False)
    def apart(images: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        edges = tf.gather(regions[0], [1, 0, 3, 2], axis=1) / [height, width, height, width]
        rows = tf.zeros(tf.shape(edges)[:1], tf.int32)
        crops = tf.image.crop_and_resize(tf.cast(images, tf.float32), edges, rows, [_CROP, _CROP])
        count = tf.shape(crops)[0]
        return network(
            {
                "images": tf.cast(crops, tf.uint8),
                "sizes": tf.fill([count, 2], _CROP),
                "regions": tf.tile([[[0.0, 0.0, _CROP, _CROP]]], [count, 1, 1]),
            }
        )["logits"]

    return shared, apart


def _draw_regions(count: int) -> list[np.ndarray]:
    """Gives so many times 200 boxes, at least 16 pixels a side, float32 `[200, 4]`."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        sides = generator.uniform(16, _SIZE, (_NUM_REGIONS, 2))
        corners = generator.uniform(0, 1, (_NUM_REGIONS, 2)) * (np.array(_SIZE) - sides)
        found.append(np.concatenate([corners, corners + sides], axis=1).astype(np.float32))
    return found


def measure_proposals(workload: Workload) -> Measurements:
    """Gives the figures of proposals; needs the extra `detection`."""
    photographs = _read(workload)
    figures: Measurements = {}
    for mode in MODES:
        sides = {
            # All boxes, as many as OpenCV alone gives.
            "ours": functools.partial(propose_boxes, mode=mode, max_boxes=10**6),
            "alone": functools.partial(_search, mode=mode),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        num_boxes = 0
        for _ in range(workload.rounds):
            for side, search in sides.items():
                taken, count = _time(search, photographs)
                seconds[side].append(taken)
                num_boxes = count if side == "ours" else num_boxes
        value, baseline = (
            len(photographs) / float(np.median(seconds[side])) for side in ("ours", "alone")
        )
        figures[f"proposals_{mode}"] = {
            "value": value,
            "baseline": baseline,
            "ratio": value / baseline,
        }
        figures[f"proposals_{mode}_boxes"] = {"value": value * num_boxes / len(photographs)}
    return figures


def _read(workload: Workload) -> list[np.ndarray]:
    manifest = scan_images(workload.images).usable()
    rows = np.linspace(0, len(manifest) - 1, workload.num_images).astype(int)
    images = load_images(manifest.select(np.unique(rows)))
    return [cv2.resize(one["image"].numpy(), _SIZE, interpolation=cv2.INTER_AREA) for one in images]


def _time(
    search: Callable[[np.ndarray], np.ndarray], photographs: Sequence[np.ndarray]
) -> tuple[float, int]:
    """Gives seconds of one processor and the number of boxes."""
    with _one_thread():
        began = time.thread_time()
        num_boxes = sum(len(search(image)) for image in photographs)
        return time.thread_time() - began, num_boxes


def _search(image: np.ndarray, mode: str) -> np.ndarray:
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    getattr(search, MODES[mode])()
    return np.asarray(search.process())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps OpenCV on the calling thread, whose time is taken."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
