"""All regions of photographs through a trained R-CNN, some at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.tasks.detection.rcnn.batches import canvas_loader
from keras_ctxattr.tasks.detection.rcnn.network import Rcnn
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe

Progress = Callable[[int, int], None]


def describe_regions(
    model: Rcnn,
    manifest: Manifest,
    regions: Sequence[np.ndarray],
    recipe: RcnnRecipe,
    *,
    progress: Progress | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Gives what the network says of the regions of each photograph, in the photographs' order.

    Args:
        model: trained.
        manifest: the photographs.
        regions: for each, float32 `[n, 4]`, edges in pixels of the upright photograph.
        recipe: as the model was trained with.
        progress: called with (photographs done, photographs in all).

    Yields:
        `logits` float32 `[n, num_classes + 1]` and `features` float32 `[n, hidden_units]`.

    Raises:
        ValueError: if there are not regions of every photograph.
    """
    if len(regions) != len(manifest):
        raise ValueError(
            "There must be regions of every photograph. Received: "
            f"{len(regions)} for {len(manifest)} photographs"
        )
    if not len(manifest):
        return

    load = canvas_loader(manifest, recipe.max_side)
    rows = tf.data.Dataset.range(len(manifest))
    loaded = rows.map(load, num_parallel_calls=2, deterministic=True).prefetch(2)
    for number, (photograph, boxes) in enumerate(zip(loaded, regions, strict=True), start=1):
        yield _describe(model, photograph, boxes, recipe.crops_per_chunk)
        if progress is not None:
            progress(number, len(manifest))


def _describe(
    model: Rcnn,
    photograph: tuple[tf.Tensor, ...],
    boxes: np.ndarray,
    chunk: int,
) -> dict[str, np.ndarray]:
    """Describes the regions of one photograph, in chunks that all have one shape."""
    canvas, size, scale = photograph
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * scale.numpy()
    # One chunk at least: it tells the widths where there is no region.
    padded = np.zeros((max(1, -(-len(boxes) // chunk)) * chunk, 4), np.float32)
    padded[: len(boxes)] = boxes
    batch = {
        "canvases": canvas[None],
        "sizes": size[None],
        "places": np.zeros(chunk, np.int32),
    }
    parts = [
        model.predict_on_batch({**batch, "regions": padded[start : start + chunk]})
        for start in range(0, len(padded), chunk)
    ]
    names = ("logits", "features")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return {name: values[: len(boxes)] for name, values in joined.items()}
