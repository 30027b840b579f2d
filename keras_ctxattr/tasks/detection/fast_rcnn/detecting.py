"""From photographs and their proposals to detections."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.tasks.detection.fast_rcnn.batches import load_scaled, pad_canvases
from keras_ctxattr.tasks.detection.fast_rcnn.network import FastRcnn
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.regression import decode_boxes
from keras_ctxattr.tasks.detection.suppression import suppress
from keras_ctxattr.tasks.detection.transfer import for_inference

Told = Callable[[int, int], None]


def detect_regions(
    model: FastRcnn,
    manifest: Manifest,
    proposals: Sequence[np.ndarray],
    recipe: FastRcnnRecipe,
    *,
    progress: Told | None = None,
) -> list[Detections]:
    """Detects in every photograph, one at a time.

    Args:
        model: trained.
        manifest: the photographs.
        proposals: for each, float32 `[n, 4]`, edges in pixels of the upright photograph.
        recipe: how photographs are scaled, and what counts as a detection.
        progress: called with (photographs done, photographs in all).

    Returns:
        For each, its detections in its own pixels, by falling score.

    Reference:
        Girshick 2015, section 2.2.
    """
    classify = _classifier(model)
    found = []
    batches = _photographs(manifest, proposals, recipe)
    for boxes, batch in zip(proposals, batches, strict=True):
        found.append(_detect(classify, np.asarray(boxes, np.float32), batch, recipe))
        if progress is not None:
            progress(len(found), len(manifest))
    return found


def _detect(
    classify: Callable[[dict[str, Any]], tuple[Any, Any]],
    boxes: np.ndarray,
    batch: dict[str, Any],
    recipe: FastRcnnRecipe,
) -> Detections:
    if not len(boxes):
        return Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), classes=np.zeros(0))
    chances, refined = classify({name: batch[name] for name in ("images", "sizes", "regions")})
    if refined is None:
        placed = boxes
    else:
        height, width = (float(side) for side in batch["size_before"])
        limits = np.array([width, height, width, height], np.float32)
        placed = np.clip(np.asarray(refined) / batch["scale"].numpy(), 0, limits)
    return suppress(
        placed,
        np.asarray(chances)[:, 1:],
        min_score=recipe.min_score,
        max_overlap=recipe.max_overlap,
        max_per_image=recipe.max_detections,
    )


def _classifier(model: FastRcnn) -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    """Gives the function from a photograph to chances `[n, num_classes + 1]` and refined boxes."""
    specs = {
        "images": tf.TensorSpec([1, None, None, 3], tf.uint8),
        "sizes": tf.TensorSpec([1, 2], tf.int32),
        "regions": tf.TensorSpec([1, None, 4], tf.float32),
    }

    network = for_inference(model.network)

    @tf.function(input_signature=[specs], autograph=False)
    def classify(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
        outputs = network(batch, training=False)
        chances = ops.softmax(outputs["logits"])[0]
        if "shifts" not in outputs:
            return chances, None
        return chances, decode_boxes(batch["regions"][0][:, None], outputs["shifts"][0])

    return classify


def _photographs(
    manifest: Manifest, proposals: Sequence[np.ndarray], recipe: FastRcnnRecipe
) -> Iterator[dict[str, Any]]:
    read = encoded_reader(manifest)
    counts = [len(boxes) for boxes in proposals]
    with tf.init_scope():  # captured by the graph, not copied into it
        joined = np.concatenate([np.zeros((0, 4)), *proposals]).astype(np.float32)
        boxes, offsets = tf.constant(joined), tf.constant(np.cumsum([0, *counts]))

    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> dict[str, tf.Tensor]:
        image, scale, before = load_scaled(read, row, recipe)
        batch = {
            "images": image[None],
            "sizes": tf.shape(image)[None, :2],
            "regions": boxes[offsets[row] : offsets[row + 1]][None] * scale,
        }
        return {**pad_canvases(batch), "scale": scale, "size_before": before}

    rows = tf.data.Dataset.range(len(manifest))
    return iter(rows.map(load, num_parallel_calls=2, deterministic=True).prefetch(2))
