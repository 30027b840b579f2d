"""The network that learns to tell clusters apart, from random transformations of their samples."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.networks import BACKBONES
from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.clustering.alternation.recipe import AlternationRecipe
from keras_ctxattr.data.patches import PatchTable
from keras_ctxattr.data.shuffling import shuffled_rows
from keras_ctxattr.layers import PatchProcessing, RandomTransformation, SynchronizedDropout
from keras_ctxattr.runs import Run, digest_arrays
from keras_ctxattr.runs.callbacks import cosine_to_zero, fit_steps
from keras_ctxattr.runs.distribution import Devices, open_together, restore_together, together

KIND = "cluster_network"
BACKBONE = "backbone.keras"


def build_classifier(recipe: AlternationRecipe, num_clusters: int, seed: int = 0) -> keras.Model:
    """Gives a new, compiled network over cluster ids: its weights depend on the arguments alone.

    uint8 `[batch, size, size, 3]` -> float32 logits `[batch, num_clusters]`. Its layer "backbone"
    gives the features.

    Args:
        recipe: network, transformations and optimiser.
        num_clusters: width of the softmax, at least 2.
        seed: seed of weights and draws; it also sets the seeds of Python, numpy and TensorFlow.
    """
    keras.utils.set_random_seed(seed)
    with dtype_policy(recipe.dtype_policy):
        backbone = _build_backbone(recipe)
        patches = keras.Input((recipe.size, recipe.size, 3), dtype="uint8", name="patches")
        flow = RandomTransformation(**recipe.transformations, seed=seed, name="copies")(patches)
        flow = PatchProcessing(colour="none", downsampling=0.0, seed=seed, name="processing")(flow)
        flow = keras.Model(backbone.input, backbone.output, name="backbone")(flow)
        flow = SynchronizedDropout(recipe.dropout, seed=seed, name="dropout")(flow)
        logits = keras.layers.Dense(num_clusters, dtype="float32", name="clusters")(flow)
    model = keras.Model(patches, logits, name="cluster_classifier")
    jit = "auto" if tf.config.list_physical_devices("GPU") else False  # slower on a CPU
    model.compile(
        optimizer=keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit,
    )
    # Keras makes the accuracy's variables with the first batch: too late for a checkpoint to be
    # restored into them.
    model.compute_metrics(None, np.zeros([1], np.int32), np.zeros([1, num_clusters], np.float32))
    model.reset_metrics()
    return model


def _build_backbone(recipe: AlternationRecipe) -> keras.Model:
    return BACKBONES[recipe.backbone](input_size=recipe.size, **recipe.backbone_options)


def digest_start(path: Path, recipe: AlternationRecipe) -> str:
    """Tells the weights that a network shall begin with from others, wherever their file lies.

    Raises:
        ValueError: if it is no such file, or the recipe's network cannot take them.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"`start` must be a .keras file of a network. Received: {path}")
    weights = keras.saving.load_model(path).get_weights()
    known = [weight.shape for weight in weights]
    needed = [tuple(weight.shape) for weight in _build_backbone(recipe).weights]
    if known != needed:
        raise ValueError(
            f"`start` must be a network {recipe.backbone!r} with the recipe's `backbone_options`, "
            f"whose weights have the same shapes. Received: {path} with {len(known)} weights where "
            f"{len(needed)} are needed, or of other shapes"
        )
    return digest_arrays(weights)


def cluster_batches(
    pixels: Any,
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Gives training batches without end: step s is a function of (seed, s) alone.

    Every pass shows each sample once, in an order of its own.

    Args:
        pixels: uint8 `[n, size, size, 3]`: an array, or a table that is indexed like one.
        rows: int `[samples]`: which of them to train on.
        labels: int `[samples]`: the cluster of each of those.
        batch_size: samples in a step.
        seed: seed of the orders.
        first_step: where to begin.
        share: (which, of how many) devices this is for, each with as many samples of every batch.

    Returns:
        Batches (uint8 `[batch_size, size, size, 3]`, int32 `[batch_size]`).
    """
    which, of = share
    if batch_size % of:
        raise ValueError(
            "`batch_size` must be a multiple of the number of devices, so that each has as many "
            f"samples. Received: batch_size={batch_size}, {of} devices"
        )
    size = batch_size // of
    count, shape = len(rows), (size, *pixels.shape[1:])

    def draw(step: tf.Tensor) -> tf.Tensor:
        places = step * batch_size + which * size + tf.range(size, dtype=tf.int64)
        return shuffled_rows(places, count, seed)

    def gather(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(pixels[rows[chosen]]), labels[chosen].astype(np.int32)

    def load(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The table may be larger than memory: it is read in numpy, and only here.
        images, ids = tf.numpy_function(gather, [chosen], (tf.uint8, tf.int32), stateful=False)
        return tf.ensure_shape(images, shape), tf.ensure_shape(ids, [size])

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return steps.map(draw).map(load, num_parallel_calls=2, deterministic=True).prefetch(4)


def train_classifier(
    patches: PatchTable,
    labels: np.ndarray,
    folder: Path,
    recipe: AlternationRecipe,
    *,
    seed: int,
    start: Path | None = None,
    devices: Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Trains a network on the patches that are in a cluster; the same call again goes on.

    The folder will hold `backbone.keras`, whose output are the features.

    Args:
        patches: all patches.
        labels: int `[patches]`: the cluster of each, -1 for those that are left out.
        folder: a run folder of its own.
        recipe: network, transformations and optimiser.
        seed: seed of weights and draws.
        start: a `backbone.keras` from whose weights to begin; None begins at random ones.
        devices: as `keras_ctxattr.runs.distribution.open_devices` gives them; one device if None.
            They share the recipe's batch.
        callbacks: further Keras callbacks, called first.

    Returns:
        The trained network; its layer "backbone" gives the features.

    Raises:
        TrainingCollapsed: if training failed for good.
        WorkersError: if the other processes are not all there, or not at one.
    """
    rows = np.flatnonzero(labels >= 0)
    names, targets = np.unique(labels[rows], return_inverse=True)
    config = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "labels": digest_arrays([labels.astype(np.int32)]),
    }
    devices = devices or Devices()
    opened = open_together(devices, folder, config, kind=KIND)
    with together(devices) as heartbeat, opened as run:
        with devices.scope():
            model = build_classifier(recipe, len(names), seed)
        resumed = restore_together(devices, run, model)
        if run.finished:
            return devices.on_one(model)
        if resumed is None and start is not None:
            known = keras.saving.load_model(start)
            model.get_layer("backbone").set_weights(known.get_weights())
        devices.align(model, [model.get_layer("copies"), model.get_layer("dropout")])
        epoch_size = -(-len(rows) // recipe.batch_size)
        num_steps = epoch_size * recipe.copies
        fit_steps(
            model,
            lambda step, share=(0, 1): cluster_batches(
                patches.pixels,
                rows,
                targets,
                batch_size=recipe.batch_size,
                seed=seed,
                first_step=step,
                share=share,
            ),
            run,
            num_steps=num_steps,
            epoch_size=epoch_size,
            rate_at=cosine_to_zero(recipe.learning_rate),
            checkpoint_minutes=recipe.checkpoint_minutes,
            resumed=resumed,
            callbacks=[heartbeat, *callbacks],
            devices=devices,
        )
        heartbeat.rest()
        model = devices.on_one(model)
        if devices.leads:
            with run.writing(BACKBONE) as partial:
                model.get_layer("backbone").save(partial)
        run.finish({"steps": num_steps, "num_clusters": len(names), "num_patches": len(rows)})
    return model


def training_figures(folder: str | Path) -> dict[str, float]:
    """Gives the figures of a training's last epoch, for a module's `metrics`.

    Args:
        folder: the run folder that `train_classifier` wrote.
    """
    rows = Run.read(folder, kind=KIND).metrics.rows()
    last = rows[-1] if rows else {}
    names = {"accuracy": "training_accuracy", "loss": "training_loss", "step": "step"}
    return {new: last[old] for old, new in names.items() if math.isfinite(last.get(old, math.nan))}
