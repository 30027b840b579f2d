"""Learns attributes of clusters and writes what there is to use: model, codes, their statistics."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes.codes import bit_metrics, bit_statistics, encode_scores
from keras_ctxattr.attributes.hasher import AttributeHasher
from keras_ctxattr.attributes.learning.callbacks import BitGuard, SlopeSchedule
from keras_ctxattr.attributes.learning.groups import Groups
from keras_ctxattr.attributes.learning.recipe import AttributeRecipe
from keras_ctxattr.export import export_module
from keras_ctxattr.runs import Checkpoint, Run, RunError
from keras_ctxattr.runs.callbacks import cosine_to_zero, fit_steps
from keras_ctxattr.runs.distribution import Devices, open_together, restore_together, together

KIND = "attributes"
HASHER = "hasher.keras"
CODES = "codes.npy"

_CHUNK = 512  # samples encoded at a time


def learn_attributes(
    samples: Any,
    labels: np.ndarray | None,
    folder: str | Path,
    recipe: AttributeRecipe | None = None,
    *,
    neighbours: np.ndarray | None = None,
    backbone: keras.Model | None = None,
    vectors: Any = None,
    source: Mapping[str, Any] | None = None,
    seed: int = 0,
    devices: Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Learns binary attributes that samples of a cluster share; the same call again resumes.

    The folder will hold `hasher.keras`, `codes.npy` (the packed codes of all samples, uint8
    `[n, num_attributes / 8]`) and, where there is a backbone, `module`, a SavedModel with features,
    attributes and codes.

    Args:
        samples: uint8 `[n, size, size, 3]` patches, or without a backbone float
            `[n, num_features]`: an array, or a table that is sliced and indexed like one.
        labels: int `[n]`: the cluster of each, -1 for none; None where there are `neighbours`.
        folder: the run folder.
        recipe: loss, batches and optimiser.
        neighbours: int `[n, k]`: rows that are like each, in place of clusters (the ablation UTH).
        backbone: a `keras.Model` from patches to features, which is trained on; a copy of it is.
        vectors: its features of the samples at unit length, if they are known; else they are
            computed.
        source: what the samples are, for the run's configuration and the module's `trained_on`;
            JSON types.
        seed: seed of every draw, 0 to 2**31 - 1.
        devices: as `keras_ctxattr.runs.distribution.open_devices` gives them; one device if None.
            They share the recipe's batch.
        callbacks: further Keras callbacks, called first.

    Returns:
        `steps`, `num_samples`, `num_clusters` that are learnt from, and `bits`, as `bit_statistics`
        gives them.

    Raises:
        ValueError: if an argument is impossible, or there are fewer than two clusters.
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.

    Reference:
        Huang, Loy, Tang 2016, section 3.2.
    """
    recipe = recipe or AttributeRecipe()
    groups = Groups.of(samples, labels, neighbours, recipe)
    config = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "labels": groups.digest,
        "source": dict(source or {}),
    }
    devices = devices or Devices()
    opened = open_together(devices, folder, config, kind=KIND)
    with together(devices) as heartbeat, opened as run:
        if run.finished:
            return run.summary
        with devices.scope():
            hasher = build_hasher(recipe, backbone, samples.shape[1], seed)
        resumed = restore_together(devices, run, hasher)
        if resumed is None:
            known = _describe(hasher, samples) if vectors is None else vectors
            hasher.initialize(known, groups.labels, seed=seed)
        devices.align(hasher, whole_batch=hasher.drawing_layers)
        watching = [heartbeat, *callbacks]
        num_steps = _train(run, hasher, samples, groups, recipe, resumed, seed, watching, devices)
        heartbeat.rest()
        hasher = devices.on_one(hasher)
        codes = encode_samples(hasher, samples)
        summary = {
            "steps": num_steps,
            "num_samples": len(samples),
            "num_clusters": groups.num_clusters,
            "bits": bit_statistics(codes),
        }
        if devices.leads:
            _write(run, hasher, codes, summary)
        run.finish(summary)
    return summary


def _train(
    run: Run,
    hasher: AttributeHasher,
    samples: Any,
    groups: Groups,
    recipe: AttributeRecipe,
    resumed: Checkpoint | None,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
    devices: Devices,
) -> int:
    """Trains to the end, from the last checkpoint on, and gives the steps of the whole run."""
    epoch_size = max(1, round(groups.num_usable / recipe.batch_size))
    num_steps = max(epoch_size * recipe.passes, recipe.min_steps)
    watching = [*callbacks, BitGuard(recipe.num_attributes)]
    if recipe.final_slope is not None:
        watching.append(SlopeSchedule(recipe.slope, recipe.final_slope, num_steps, resumed=resumed))
    fit_steps(
        hasher,
        functools.partial(groups.batches, samples, recipe, seed),
        run,
        num_steps=num_steps,
        epoch_size=epoch_size,
        rate_at=cosine_to_zero(recipe.learning_rate),
        checkpoint_minutes=recipe.checkpoint_minutes,
        resumed=resumed,
        callbacks=watching,
        devices=devices,
    )
    return num_steps


def load_hasher(folder: str | Path) -> AttributeHasher:
    """Reads the trained model of a run folder.

    Raises:
        RunError: if the run is not finished, or of another kind.
    """
    run = Run.read(folder, kind=KIND)
    if not run.finished:
        raise RunError(f"{run.path} is not finished: give the training command again.")
    return keras.saving.load_model(run.path / HASHER)


def build_hasher(
    recipe: AttributeRecipe, backbone: keras.Model | None, num_features: int, seed: int
) -> AttributeHasher:
    """Gives a new, compiled model: its weights depend on the arguments alone.

    Args:
        recipe: loss and optimiser.
        backbone: is copied.
        num_features: length of a sample where there is no backbone.
        seed: it also sets the seeds of Python, numpy and TensorFlow.
    """
    keras.utils.set_random_seed(seed)
    if backbone is not None:
        copied = keras.models.clone_model(backbone)
        copied.set_weights(backbone.get_weights())
        backbone = copied
    hasher = AttributeHasher(
        backbone,
        num_attributes=recipe.num_attributes,
        num_features=None if backbone is not None else num_features,
        alpha=recipe.alpha,
        beta=recipe.beta,
        gamma=recipe.gamma,
        margin=recipe.margin,
        contrast_size=recipe.contrast_size,
        slope=recipe.slope,
        literal_eq2=recipe.literal_eq2,
        backbone_rate=recipe.backbone_rate,
        transformations=recipe.transformations if backbone is not None else None,
        seed=seed,
    )
    jit = "auto" if tf.config.list_physical_devices("GPU") else False  # slower on a CPU
    hasher.compile(
        optimizer=keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay),
        jit_compile=jit,
    )
    return hasher


def score_samples(hasher: AttributeHasher, samples: Any) -> np.ndarray:
    """Gives the scores of samples, float32 `[n, num_attributes]`, some at a time.

    Args:
        hasher: the model.
        samples: what it takes: an array, or a table that is sliced like one.
    """
    chunks = (samples[start : start + _CHUNK] for start in range(0, len(samples), _CHUNK))
    return np.concatenate([hasher(np.asarray(one), training=False).numpy() for one in chunks])


def encode_samples(hasher: AttributeHasher, samples: Any) -> np.ndarray:
    """Gives the packed codes of samples, uint8 `[n, num_attributes / 8]`, some at a time."""
    return encode_scores(score_samples(hasher, samples))


def _describe(hasher: AttributeHasher, samples: Any) -> np.ndarray:
    if hasher.backbone is None:
        return samples
    chunks = (samples[start : start + _CHUNK] for start in range(0, len(samples), _CHUNK))
    return np.concatenate([hasher.describe(np.asarray(one), False).numpy() for one in chunks])


def _write(run: Run, hasher: AttributeHasher, codes: np.ndarray, summary: dict[str, Any]) -> None:
    with run.writing(CODES) as partial, partial.open("wb") as file:
        np.save(file, codes)
    with run.writing(HASHER) as partial:
        hasher.save(partial)
    if hasher.backbone is not None:
        counts = {name: summary[name] for name in ("num_samples", "num_clusters")}
        export_module(
            hasher,
            run.place("module"),
            metadata={**run.config["source"], **counts},
            config=run.config,
            metrics={"step": summary["steps"], **bit_metrics(summary["bits"])},
            overwrite=True,
        )
