"""Learns a contour network in a run folder; the same call again goes on."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.runs.callbacks import cosine_to_zero, fit_steps
from keras_ctxattr.tasks.contours.crops import contour_batches, pad_photograph
from keras_ctxattr.tasks.contours.labels import ContourImages
from keras_ctxattr.tasks.contours.network import ContourLearner, contour_network, dense_network
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

KIND = "contours"
NETWORK = "network.keras"
EPOCH = 100  # steps over which metrics are means

Detect = Callable[[np.ndarray], np.ndarray]
"""From a photograph uint8 `[height, width, 3]` to float32 `[height, width, 1 + K]` in (0, 1)."""


def learn_contours(
    images: ContourImages,
    folder: str | Path,
    recipe: ContourRecipe | None = None,
    *,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Learns to tell contours from other pixels; the same call again resumes.

    The folder will hold `network.keras`, for `load_contour_network`.

    Args:
        images: what is learnt from.
        folder: the run folder.
        recipe: network, crops and optimiser.
        seed: of weights and draws, 0 to 2**31 - 1.
        callbacks: further Keras callbacks, called first.

    Returns:
        `steps`, `num_images`, and the last means of `contours_found` and `others_found`, shares.

    Raises:
        ValueError: if an argument is impossible.
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.
    """
    recipe = recipe or ContourRecipe()
    config = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "images": list(images.names),
        "digest": _digest(images),
    }
    with Run.open(folder, config, kind=KIND) as run:
        if run.finished:
            return run.summary
        learner = build_learner(recipe, seed=seed)
        resumed = run.restore(learner)
        fit_steps(
            learner,
            lambda step: contour_batches(images, recipe, seed=seed, first_step=step),
            run,
            num_steps=recipe.optimizer_steps,
            epoch_size=min(EPOCH, recipe.optimizer_steps),
            rate_at=cosine_to_zero(recipe.learning_rate),
            checkpoint_minutes=recipe.checkpoint_minutes,
            resumed=resumed,
            callbacks=callbacks,
        )
        last = run.metrics.rows()[-1]
        summary = {
            "steps": recipe.optimizer_steps,
            "num_images": len(images),
            **{name: float(last[name]) for name in ("contours_found", "others_found")},
        }
        with run.writing(NETWORK) as partial:
            learner.network.save(partial)
        run.finish(summary)
    return summary


def build_learner(
    recipe: ContourRecipe, *, num_attributes: int = 0, seed: int = 0
) -> ContourLearner:
    """Gives a new, compiled model: its weights depend on the arguments alone."""
    keras.utils.set_random_seed(seed)
    with dtype_policy(recipe.dtype_policy):
        network = contour_network(num_attributes, recipe)
        learner = ContourLearner(
            network,
            contour_share=recipe.contour_share,
            attribute_weight=recipe.attribute_weight,
        )
    jit = "auto" if tf.config.list_physical_devices("GPU") else False  # slower on a CPU
    optimizer = keras.optimizers.Adam(recipe.learning_rate)
    learner.compile(optimizer=optimizer, jit_compile=jit)
    return learner


def load_contour_network(folder: str | Path) -> keras.Model:
    """Reads what a run has learnt, as `contour_network` made it.

    Raises:
        RunError: if the run is not finished, or of another kind.
    """
    run = Run.read(folder, kind=KIND)
    if not run.finished:
        raise RunError(f"{run.path} is not finished: give the training command again.")
    return keras.saving.load_model(run.path / NETWORK)


def contour_detector(network: keras.Model) -> Detect:
    """Gives the function from a photograph to its maps, by one pass.

    The photograph is mirrored beyond its edges, where the network of a pixel sees them.

    Args:
        network: made by `contour_network`, trained.
    """
    dense = dense_network(network)

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)], autograph=False)
    def run(pixels: tf.Tensor) -> tf.Tensor:
        return dense(pixels, training=False)[0]

    def detect(photograph: np.ndarray) -> np.ndarray:
        padded = pad_photograph(np.asarray(photograph)).astype(np.float32)
        return run(padded[None]).numpy()

    return detect


def _digest(images: ContourImages) -> str:
    found = hashlib.blake2b(digest_size=16)
    for pixels, boundaries in zip(images.pixels, images.boundaries, strict=True):
        found.update(np.ascontiguousarray(pixels).tobytes())
        found.update(np.packbits(boundaries).tobytes())
    return found.hexdigest()
