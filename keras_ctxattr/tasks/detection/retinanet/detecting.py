"""What a RetinaNet finds in photographs, in their own pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.retinanet.batches import detection_batches
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe
from keras_ctxattr.tasks.detection.suppression import suppress

if TYPE_CHECKING:
    from keras_hub.models import RetinaNetObjectDetector

Told = Callable[[int, int], None]


def detect_retinanet(
    model: RetinaNetObjectDetector,
    photographs: BoxedPhotographs,
    recipe: RetinaNetRecipe | None = None,
    *,
    progress: Told | None = None,
) -> list[Detections]:
    """Gives what a RetinaNet finds in each photograph.

    Overlapping boxes of one class drop each other. (The `predict` of keras-hub's detectors gives
    each box its likeliest class and lets all boxes drop each other: of a rider and a horse one is
    lost.)

    Args:
        model: Of `build_retinanet` or `load_retinanet`.
        photographs: To look at; their boxes are not.
        recipe: Size of the photographs, and which detections are kept.
        progress: Called with (photographs done, photographs in all).

    Returns:
        Detections of each, in the order of the photographs, the surest first; boxes in pixels of
        the upright photograph, and within it.
    """
    recipe = recipe or RetinaNetRecipe()
    predict = _predictor(model, recipe.image_size)
    processing = model.backbone.image_encoder.processing
    manifest = photographs.manifest
    found: list[Detections] = []
    own = np.stack([manifest.heights, manifest.widths], -1)  # [photograph, axis]
    for images, sizes in detection_batches(photographs, processing, recipe):
        columns = (values.numpy() for values in (*predict(images), sizes))
        for boxes, chances, size in zip(*columns, strict=True):
            found.append(_keep(*_to_photograph(boxes, chances, size, own[len(found)]), recipe))
        if progress is not None:
            progress(len(found), len(photographs))
    return found


def place_boxes(model: RetinaNetObjectDetector, shifts: Any, images: Any) -> tf.Tensor:
    """Gives boxes on the canvas from a RetinaNet's regression.

    Args:
        model: It has the anchors.
        shifts: Float `[batch, anchors, 4]`, from each anchor to its box.
        images: Float32 `[batch, height, width, 3]`; of known height and width.

    Returns:
        Float32 `[batch, anchors, 4]`, (left, top, right, bottom) edges in pixels, cut at the
        canvas's.
    """
    anchors = tf.concat(list(model.anchor_generator(images).values()), 0)
    return keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors=anchors,
        boxes_delta=tf.cast(shifts, tf.float32),
        encoded_format=model.label_encoder.encoding_format,
        anchor_format=model.anchor_generator.bounding_box_format,
        box_format="xyxy",
        image_shape=tuple(images.shape[1:]),
    )


def _predictor(
    model: RetinaNetObjectDetector, side: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Gives the function from images to boxes on the canvas and chances `[n, anchors, classes]`."""
    spec = tf.TensorSpec([None, side, side, 3], tf.float32)

    @tf.function(input_signature=[spec], autograph=False)
    def predict(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        predicted = model(images, training=False)
        chances = tf.sigmoid(tf.cast(predicted["cls_logits"], tf.float32))
        return place_boxes(model, predicted["bbox_regression"], images), chances

    return predict


def _to_photograph(
    boxes: np.ndarray, chances: np.ndarray, size: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives boxes on a canvas as such in the photograph, without those beside it.

    Args:
        boxes: Float32 `[anchors, 4]`.
        chances: Float32 `[anchors, classes]`.
        size: (height, width) of the photograph on the canvas.
        own: Its own.
    """
    corners = boxes.reshape(-1, 2, 2)  # [anchor, corner, (x, y)]
    placed = np.clip(corners * (own / size)[::-1], 0, own[::-1])
    is_there = (placed[:, 1] > placed[:, 0]).all(axis=-1)
    return placed[is_there].reshape(-1, 4), chances[is_there]


def _keep(boxes: np.ndarray, chances: np.ndarray, recipe: RetinaNetRecipe) -> Detections:
    return suppress(
        boxes,
        chances,
        min_score=recipe.min_score,
        max_overlap=recipe.max_overlap,
        max_per_image=recipe.max_detections,
    )
