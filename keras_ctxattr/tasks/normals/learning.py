"""Learns surface normals in a run folder; the same call again goes on."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.runs import Run, digest_arrays
from keras_ctxattr.runs.callbacks import cosine_to_zero, fit_steps
from keras_ctxattr.tasks.detection.starting import weights_digest
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork
from keras_ctxattr.tasks.normals.aligning import align_features
from keras_ctxattr.tasks.normals.baselines import MeanNormals
from keras_ctxattr.tasks.normals.batches import normals_batches
from keras_ctxattr.tasks.normals.frames import LabelledFrames, has_normal
from keras_ctxattr.tasks.normals.network import NormalsLearner, normals_network
from keras_ctxattr.tasks.normals.predicting import BASELINES, KIND, MODEL
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe

EPOCH = 50  # steps over which metrics are means


def learn_normals(
    frames: LabelledFrames,
    folder: str | Path,
    features: FeatureNetwork,
    recipe: NormalsRecipe | None = None,
    *,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Learns the normals of what photographs show, from a network; the same call again resumes.

    The folder will hold `model.keras`, for `load_normals_model`, and `baselines.npz`, for
    `MeanNormals.load`.

    Args:
        frames: what is learnt from, scaled as the recipe says.
        folder: the run folder.
        features: the network to start from.
        recipe: head, crops and optimiser.
        seed: of the head's weights and draws, 0 to 2**31 - 1.
        about: what the summary also says, such as where the frames are; JSON types.
        callbacks: further Keras callbacks, called first.

    Returns:
        `steps`, `num_frames`, `share_valid` (of their pixels, with a normal), the last means of
        `loss` and `angle` (degrees) in training, and `about`.

    Raises:
        RunError: if the folder holds another run.
        TrainingCollapsed: if training failed for good.
    """
    recipe = recipe or NormalsRecipe()
    config = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "network": features.name,
        "weights": weights_digest(features.model),
        "frames": list(frames.names),
        "digest": digest_arrays([frames.pixels, frames.normals]),
    }
    with Run.open(folder, config, kind=KIND) as run:
        if run.finished:
            return run.summary
        features = align_features(features)
        learner = build_learner(features, recipe, seed=seed)
        resumed = run.restore(learner)
        fit_steps(
            learner,
            lambda step: normals_batches(frames, recipe, seed=seed, first_step=step),
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
            "num_frames": len(frames),
            "share_valid": float(has_normal(frames.normals).mean()),
            **{name: float(last[name]) for name in ("loss", "angle")},
            **(about or {}),
        }
        # In float32, so that it does the same on any machine.
        model = normals_network(features, recipe, policy="float32")
        model.set_weights(learner.network.get_weights())
        with run.writing(MODEL) as partial:
            model.save(partial)
        with run.writing(BASELINES) as partial:
            MeanNormals.of(frames).save(partial)
        run.finish(summary)
    return summary


def build_learner(
    features: FeatureNetwork, recipe: NormalsRecipe, *, seed: int = 0
) -> NormalsLearner:
    """Gives a new, compiled model: its weights depend on the arguments alone."""
    keras.utils.set_random_seed(seed)
    learner = NormalsLearner(normals_network(features, recipe))
    jit = "auto" if tf.config.list_physical_devices("GPU") else False  # slower on a CPU
    learner.compile(optimizer=keras.optimizers.Adam(recipe.learning_rate), jit_compile=jit)
    return learner
