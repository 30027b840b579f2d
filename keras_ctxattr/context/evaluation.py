"""What a trained model tells: accuracy on the pretext task, and nearest neighbours of patches."""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.context.head import NUM_POSITIONS
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.layers import PatchProcessing

_BATCH = 64  # patches at a time where gradients are not needed
_MIN_NORM = 1e-12


def count_positions(model: ContextPredictor, batches: Iterable[dict[str, Any]]) -> np.ndarray:
    """Counts, for each batch, which position was predicted where which was true.

    Args:
        model: the trained model; nothing is downsampled, its colour guard and jitter act. For
            another colour guard see `with_colour`.
        batches: as `evaluation_batches` gives them, one image a batch.

    Returns:
        int64 `[batches, 8, 8]`: true position, predicted position. Padded pairs are not counted.
    """

    @tf.function(reduce_retracing=True)
    def predict(batch: dict[str, Any]) -> Any:
        return tf.argmax(model(batch, training=False), axis=-1, output_type=tf.int32)

    counts = []
    for batch in batches:
        predicted, true = np.asarray(predict(batch)), np.asarray(batch["pairs"])[:, 2]
        valid = np.asarray(batch.get("pair_mask", np.ones(len(true), bool)))
        confusion = np.zeros((NUM_POSITIONS, NUM_POSITIONS), np.int64)
        np.add.at(confusion, (true[valid], predicted[valid]), 1)
        counts.append(confusion)
    return np.stack(counts) if counts else np.zeros((0, NUM_POSITIONS, NUM_POSITIONS), np.int64)


def summarize_positions(counts: np.ndarray) -> dict[str, Any]:
    """Gives accuracies from the counts of each image.

    Args:
        counts: int64 `[images, 8, 8]`, as `count_positions` gives them.

    Returns:
        `accuracy`: share of all pairs that are right; `chance`: 1/8; `majority`: share of the most
        frequent position, which is what always answering it scores (grids hold more straight
        neighbours than diagonal ones); `accuracy_over_positions`: mean over the positions, where
        every constant answer scores 1/8; `num_images` (with at least a pair); `num_pairs`;
        `accuracy_per_position` (8, None where a position did not occur); `confusion` (8 x 8
        *counts*: true, predicted); `accuracy_std_over_images`: standard deviation of the images'
        accuracies; `accuracy_standard_error`: that divided by the root of the number of images.

    Raises:
        ValueError: if there is no pair.
    """
    per_image = counts.sum(axis=(1, 2))
    counts, per_image = counts[per_image > 0], per_image[per_image > 0]
    if not len(counts):
        raise ValueError("At least one image must hold a pair of patches. Received: none")
    shares = counts.trace(axis1=1, axis2=2) / per_image
    confusion = counts.sum(axis=0)
    deviation = float(shares.std(ddof=1)) if len(shares) > 1 else 0.0
    rows = confusion.sum(axis=1)
    per_position = [
        float(hits / total) if total else None
        for hits, total in zip(confusion.diagonal(), rows, strict=True)
    ]
    return {
        "accuracy": float(confusion.trace() / confusion.sum()),
        "chance": 1 / NUM_POSITIONS,
        "majority": float(rows.max() / rows.sum()),
        "accuracy_over_positions": float(np.mean([x for x in per_position if x is not None])),
        "num_images": len(counts),
        "num_pairs": int(confusion.sum()),
        "accuracy_per_position": per_position,
        "confusion": confusion.tolist(),
        "accuracy_std_over_images": deviation,
        "accuracy_standard_error": deviation / len(shares) ** 0.5,
    }


def with_colour(predictor: ContextPredictor, colour: str) -> ContextPredictor:
    """Gives a predictor with the same weights whose patches go through another colour guard.

    It serves to score models that were trained with different guards on one task.

    Args:
        predictor: the trained model; it stays as it is. The result shares its backbone: use it to
            predict, not to train.
        colour: `"drop"`, `"project"` or `"none"`.

    Returns:
        The predictor itself where it has this guard, else another one.

    Raises:
        ValueError: if `colour` is unknown.
    """
    config = predictor.get_config()
    if colour == config["colour"]:
        return predictor
    other = type(predictor)(**{**config, "backbone": predictor.backbone, "colour": colour})
    other.head.set_weights(predictor.head.get_weights())
    return other


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchSample:
    """Patches at random places of photographs.

    Attributes:
        patches: uint8 `[patches, size, size, 3]`.
        images: int64 `[patches]`, which photograph each is from: 0, 1, ... in the order of drawing.
        positions: float32 `[patches, 2]`, (x, y) of each centre as fractions of the image's size.
    """

    patches: np.ndarray
    images: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.patches)


def sample_patches(
    manifest: Manifest, num_patches: int, *, patch_size: int = 96, seed: int = 0
) -> PatchSample:
    """Cuts patches at uniformly random places, as many from every photograph as possible.

    Args:
        manifest: the photographs; scaled as in training.
        num_patches: number of patches; where it is less than the photographs, one is cut from each
            of so many.
        patch_size: side of a patch in pixels.
        seed: seed of all draws.

    Raises:
        ValueError: if no image is usable.
    """
    if num_patches < 1:
        raise ValueError(f"`num_patches` must be at least 1. Received: {num_patches}")
    config = GridConfig(patch_size=patch_size, images_per_batch=1, patches_per_batch=1)
    # `grid_batches` leaves out what is too small: a step more would show an image twice.
    num_images = min(len(config.mark_too_small(manifest).usable()), num_patches)
    shares = np.diff(np.linspace(0, num_patches, max(1, num_images) + 1).astype(int))
    batches = grid_batches(manifest, config, seed=seed, num_steps=max(1, num_images))
    generator = np.random.default_rng(seed)
    patches, positions = [], []
    for share, batch in zip(shares, batches.as_numpy_iterator(), strict=True):
        size = batch["sizes"][0]
        image = batch["canvases"][0][: size.prod()].reshape(*size, 3)
        for row, column in generator.integers(0, size - patch_size + 1, (share, 2)):
            patches.append(image[row : row + patch_size, column : column + patch_size].copy())
            positions.append((np.array([column, row]) + patch_size / 2) / size[::-1])
    return PatchSample(
        patches=np.stack(patches),
        images=np.repeat(np.arange(num_images), shares),
        positions=np.array(positions, np.float32),
    )


def backbone_function(
    predictor: ContextPredictor, backbone: keras.Model | None = None
) -> Callable[[np.ndarray], Any]:
    """Gives the function from pixels to fc6 that an exported module computes.

    Args:
        predictor: the trained model: says how patches are normalised.
        backbone: another network in place of its own, such as an untrained one.

    Returns:
        A function from float32 `[batch, size, size, 3]` in [0, 1] to float32
        `[batch, num_features]`; deterministic, colours as they are.
    """
    network = backbone or predictor.backbone
    own = predictor.processing
    processing = PatchProcessing(own.preset, "none", downsampling=0.0, mean=own.mean)

    @tf.function(reduce_retracing=True)
    def describe(images: Any) -> Any:
        return tf.cast(network(processing(images * 255.0), training=False), tf.float32)

    return describe


def untrained_backbone(predictor: ContextPredictor, seed: int = 0) -> keras.Model:
    """Gives a network of the same architecture with new random weights."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(predictor.backbone)


def describe_patches(describe: Callable[[np.ndarray], Any], patches: np.ndarray) -> np.ndarray:
    """Gives features of length 1, whose products are cosines.

    Args:
        describe: from float32 `[batch, size, size, 3]` in [0, 1] to `[batch, num_features]`.
        patches: uint8 `[patches, size, size, 3]`.

    Returns:
        float32 `[patches, num_features]`; a vector of zeros stays one.
    """
    batches = [
        np.asarray(describe((patches[start : start + _BATCH] / 255.0).astype("float32")))
        for start in range(0, len(patches), _BATCH)
    ]
    features = np.concatenate(batches).astype("float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _MIN_NORM)


def nearest_patches(
    queries: np.ndarray,
    gallery: np.ndarray,
    num_neighbours: int,
    *,
    query_images: np.ndarray | None = None,
    gallery_images: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the patches of the gallery whose features point most nearly the same way.

    Args:
        queries: float32 `[queries, num_features]`, of length 1.
        gallery: float32 `[patches, num_features]`, of length 1.
        num_neighbours: how many of each, at least 1.
        query_images: int `[queries]`; a neighbour never comes from the query's own image, and at
            most one neighbour comes from each image.
        gallery_images: int `[patches]`.

    Returns:
        (indices int64 `[queries, num_neighbours]` into the gallery, -1 past the end; cosines
        float32 `[queries, num_neighbours]`), best first, equals in the gallery's order.
    """
    query_images = np.full(len(queries), -1) if query_images is None else query_images
    gallery_images = np.arange(len(gallery)) if gallery_images is None else gallery_images
    indices = np.full((len(queries), num_neighbours), -1, np.int64)
    cosines = np.zeros((len(queries), num_neighbours), np.float32)
    for query, (features, image) in enumerate(zip(queries, query_images, strict=True)):
        scores = gallery @ features
        order = np.argsort(-scores, kind="stable")
        order = order[gallery_images[order] != image]
        _, first = np.unique(gallery_images[order], return_index=True)
        best = order[np.sort(first)[:num_neighbours]]
        indices[query, : len(best)], cosines[query, : len(best)] = best, scores[best]
    return indices, cosines


def shared_neighbours(first: np.ndarray, second: np.ndarray) -> float:
    """Gives the mean share of neighbours that two methods have in common.

    Args:
        first: int `[queries, k]`, -1 for none.
        second: int `[queries, k]`.
    """
    shares = []
    for one, other in zip(first, second, strict=True):
        found = collections.Counter(one[one >= 0].tolist())
        shares.append(sum(index in found for index in other) / max(1, (other >= 0).sum()))
    return float(np.mean(shares))
