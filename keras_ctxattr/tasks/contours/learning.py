"""Learns a contour network in a run folder; the same call again goes on."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.runs import Run, RunError, digest_arrays
from keras_ctxattr.runs.callbacks import cosine_to_zero, fit_steps
from keras_ctxattr.tasks.contours.attributes import ContourAttributes
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.crops import contour_batches
from keras_ctxattr.tasks.contours.labels import CONTOUR, NONE, ContourImages, label_pixels
from keras_ctxattr.tasks.contours.module import ContourModule, export_contours
from keras_ctxattr.tasks.contours.network import (
    ContourLearner,
    contour_network,
    shift_contour_logit,
    unpadded_network,
)
from keras_ctxattr.tasks.contours.patches import patch_batches
from keras_ctxattr.tasks.contours.recipe import ContourRecipe

KIND = "contours"
NETWORK = "network.keras"
PATCHES = "patches.npz"
EPOCH = 100  # steps over which metrics are means

Detect = Callable[[np.ndarray], np.ndarray]
"""From a photograph uint8 `[height, width, 3]` to float32 `[height, width, 1 + K]` in (0, 1)."""


def learn_contours(
    images: ContourImages,
    folder: str | Path,
    recipe: ContourRecipe | None = None,
    *,
    attributes: ContourAttributes | None = None,
    start: keras.Model | None = None,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Learns to tell contours from other pixels, and of which kind they are.

    The same call again resumes. The folder will hold `network.keras`, for `load_contour_network`,
    with attributes `patches.npz`, for `load_code_book`, and `module`, a SavedModel of both.

    Args:
        images: what is learnt from.
        folder: the run folder.
        recipe: network, crops and optimiser.
        attributes: of contour patches; without them contours alone are learnt.
        start: network whose weights training begins with: what another run has learnt of the same
            widths, with or without attributes.
        seed: of weights and draws, 0 to 2**31 - 1.
        callbacks: further Keras callbacks, called first.

    Returns:
        `steps`, `num_images`, `num_attributes`, `prior` (share of contours among the pixels that
        are examples) and the last means of `contours_found`, `others_found` and `bits_found`,
        shares.

    Raises:
        ValueError: if an argument is impossible, or `start` has other layers.
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.
    """
    recipe = recipe or ContourRecipe()
    prior = _prior(images, recipe)
    odds = math.log(prior / (1 - prior)) - math.log(
        recipe.contour_share / (1 - recipe.contour_share)
    )
    num_attributes = attributes.num_attributes if attributes else 0
    config = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "images": list(images.names),
        "digest": _digest(images),
        "num_attributes": num_attributes,
        "attributes": attributes and digest_arrays(attributes.hasher.get_weights()),
        "start": start and digest_arrays(start.get_weights()),
    }
    with Run.open(folder, config, kind=KIND) as run:
        if run.finished:
            return run.summary
        learner = build_learner(
            recipe,
            num_attributes=num_attributes,
            label_attributes=attributes.label if attributes else None,
            seed=seed,
        )
        if start is not None:
            _take_weights(learner.network, start)
            shift_contour_logit(learner.network, -odds)
        resumed = run.restore(learner)
        batches = contour_batches if recipe.examples == "crops" else patch_batches
        fit_steps(
            learner,
            lambda step: batches(
                images, recipe, patches=attributes is not None, seed=seed, first_step=step
            ),
            run,
            num_steps=recipe.optimizer_steps,
            epoch_size=min(EPOCH, recipe.optimizer_steps),
            rate_at=_schedule(recipe),
            checkpoint_minutes=recipe.checkpoint_minutes,
            resumed=resumed,
            callbacks=callbacks,
        )
        last = run.metrics.rows()[-1]
        found = ("contours_found", "others_found", *(("bits_found",) if attributes else ()))
        summary = {
            "steps": recipe.optimizer_steps,
            "num_images": len(images),
            "num_attributes": num_attributes,
            "prior": prior,
            **{name: float(last[name]) for name in found},
        }
        network = learner.network
        if recipe.examples == "patches":
            with dtype_policy(recipe.dtype_policy):
                network = unpadded_network(network, recipe)
        shift_contour_logit(network, odds)
        _write(run, network, attributes.book if attributes else None, summary)
        run.finish(summary)
    return summary


def _write(run: Run, network: keras.Model, book: CodeBook | None, summary: dict[str, Any]) -> None:
    """Writes what there is to use: the book, the network and the module of both."""
    if book is not None:
        with run.writing(PATCHES) as partial:
            book.save(partial)
    with run.writing(NETWORK) as partial:
        network.save(partial)
    trained_on = {name: summary[name] for name in ("num_images", "prior")}
    place = run.place("module")
    export_contours(network, place, book=book, metadata=trained_on, overwrite=True)


def _schedule(recipe: ContourRecipe) -> Callable[[float], float]:
    """Gives the learning rate at a share of the steps."""
    if recipe.drop_steps is None:
        return cosine_to_zero(recipe.learning_rate)
    drops = recipe.optimizer_steps / recipe.drop_steps
    return lambda share: recipe.learning_rate * 0.1 ** int(share * drops)


def _prior(images: ContourImages, recipe: ContourRecipe) -> float:
    """Gives the share of contours among the pixels that are examples."""
    counts = np.zeros(2)
    for boundaries in images.boundaries:
        labels = label_pixels(boundaries, recipe.min_distance)
        counts += [np.count_nonzero(labels == NONE), np.count_nonzero(labels == CONTOUR)]
    if counts.min() == 0:
        raise ValueError(
            "There must be contours in the photographs and pixels away from them. "
            f"Received: {int(counts[1])} pixels on contours and {int(counts[0])} away"
        )
    return float(counts[1] / counts.sum())


def _take_weights(network: keras.Model, start: keras.Model) -> None:
    """Takes the weights of all layers; of the last one those of a contour."""
    for layer in network.layers:
        own = layer.get_weights()
        try:
            given = start.get_layer(layer.name).get_weights()
        except ValueError:
            given = []
        if layer.name == "logits" and len(given) == len(own):
            given = [
                np.concatenate([one[..., :1], other[..., 1:]], axis=-1)
                for one, other in zip(given, own, strict=True)
            ]
        if [one.shape for one in given] != [one.shape for one in own]:
            raise ValueError(
                "`start` must have the layers of the recipe, widths and all. Received: "
                f"{layer.name} with {[list(one.shape) for one in given]} for "
                f"{[list(one.shape) for one in own]}"
            )
        layer.set_weights(given)


def build_learner(
    recipe: ContourRecipe,
    *,
    num_attributes: int = 0,
    label_attributes: Callable[..., Any] | None = None,
    seed: int = 0,
) -> ContourLearner:
    """Gives a new, compiled model: its weights depend on the arguments alone."""
    keras.utils.set_random_seed(seed)
    with dtype_policy(recipe.dtype_policy):
        network = contour_network(num_attributes, recipe, padded=recipe.examples == "patches")
        learner = ContourLearner(
            network,
            contour_share=recipe.contour_share,
            attribute_weight=recipe.attribute_weight,
            label_attributes=label_attributes,
        )
    jit = "auto" if tf.config.list_physical_devices("GPU") else False  # slower on a CPU
    optimizer = (
        keras.optimizers.Adam(recipe.learning_rate)
        if recipe.optimizer == "adam"
        else keras.optimizers.SGD(recipe.learning_rate, momentum=0.9)
    )
    learner.compile(optimizer=optimizer, jit_compile=jit)
    return learner


def load_contour_network(folder: str | Path) -> keras.Model:
    """Reads what a run has learnt, as `contour_network` made it.

    Raises:
        RunError: if the run is not finished, or of another kind.
    """
    return keras.saving.load_model(_finished(folder).path / NETWORK)


def load_code_book(folder: str | Path) -> CodeBook | None:
    """Reads the codes and patches of a run that has learnt attributes; None if it has not.

    Raises:
        RunError: if the run is not finished, or of another kind.
    """
    path = _finished(folder).path / PATCHES
    return CodeBook.load(path) if path.exists() else None


def _finished(folder: str | Path) -> Run:
    run = Run.read(folder, kind=KIND)
    if not run.finished:
        raise RunError(f"{run.path} is not finished: give the training command again.")
    return run


def contour_detector(network: keras.Model) -> Detect:
    """Gives the function from a photograph to its maps, by one pass.

    The photograph is mirrored beyond its edges, where the network of a pixel sees them.

    Args:
        network: made by `contour_network`, trained.
    """
    module = ContourModule(network)

    def detect(photograph: np.ndarray) -> np.ndarray:
        maps = module(tf.cast(np.asarray(photograph)[None], tf.float32) / 255)
        return np.concatenate([maps["edges"][0, ..., None], maps["attributes"][0]], axis=-1)

    return detect


def _digest(images: ContourImages) -> str:
    found = hashlib.blake2b(digest_size=16)
    for pixels, boundaries in zip(images.pixels, images.boundaries, strict=True):
        found.update(np.ascontiguousarray(pixels).tobytes())
        found.update(np.packbits(boundaries).tobytes())
    return found.hexdigest()
