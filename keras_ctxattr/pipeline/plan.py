"""How long the stages of learning will take on this machine, and how much fits into the time."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.conversion import fully_convolutional
from keras_ctxattr.backbones.networks import BACKBONES
from keras_ctxattr.clustering import AlternationRecipe
from keras_ctxattr.clustering.alternation.network import build_classifier
from keras_ctxattr.export.module import PHOTO_PIXELS

TRAINING_HOURS = 1.0  # where the user does not say how long; describing comes on top

_CONTEXT_SHARE = 0.3  # of the time for training
_CLUSTERED_SHARE = 0.7  # of the patches, about what is in a cluster
_CLUSTERING_SECONDS = 0.012  # a patch, of both clusterings together; measured on two cores
_MAX_CLUSTERING = 0.3  # of the time for clusters and their network
_SETUP_SECONDS = 60.0  # scans, graphs, files
_CODES_SECONDS = 0.02  # a photograph: clusters and attributes of photographs
_MAX_PATCHES = 40_000
_MAX_PER_IMAGE = 16
_COPIES = (2, 20)
_MIN_TRAINING_SECONDS = 60.0
_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """What this machine needs, in seconds.

    Attributes:
        patch: to train on one patch.
        photograph: to describe one.
    """

    patch: float
    photograph: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the stages are given.

    Attributes:
        context_minutes: for context prediction.
        patches_per_image: that are clustered.
        copies: of each clustered patch that the network is trained on.
        seconds: estimate of each stage by its name, in the order of the work.
    """

    context_minutes: float
    patches_per_image: int
    copies: int
    seconds: Mapping[str, float]

    @property
    def total_seconds(self) -> float:
        """The estimate of all stages."""
        return sum(self.seconds.values())


def measure_pace(recipe: AlternationRecipe) -> Pace:
    """Times a training step and a photograph on networks with random weights; some 20 seconds.

    Args:
        recipe: network and size of patches.
    """
    model = build_classifier(recipe, 100)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (_BATCH, recipe.size, recipe.size, 3), np.uint8)
    labels = generator.integers(0, 100, _BATCH)
    step = _shortest(lambda: model.train_on_batch(pixels, labels))
    backbone = BACKBONES[recipe.backbone](input_size=recipe.size, **recipe.backbone_options)
    network = fully_convolutional(backbone, patch_size=recipe.size)
    height = round(math.sqrt(PHOTO_PIXELS * 3 / 4))
    photograph = tf.zeros([1, height, PHOTO_PIXELS // height, 3])
    describe = tf.function(lambda images: network(images, training=False))
    seconds = _shortest(lambda: describe(photograph))
    keras.backend.clear_session()
    return Pace(patch=step / _BATCH, photograph=seconds + 0.01)  # and a JPEG decoded


def _shortest(call: Any, count: int = 3) -> float:
    call()  # traces
    seconds = []
    for _ in range(count):
        start = time.monotonic()
        call()
        seconds.append(time.monotonic() - start)
    return min(seconds)


def make_plan(num_photographs: int, pace: Pace, hours: float | None = None) -> Plan:
    """Shares the time out among the stages.

    Args:
        num_photographs: usable ones.
        pace: of this machine.
        hours: for all stages; None takes an hour for training, and what describing takes.

    Raises:
        ValueError: if describing the photographs leaves no time for training.
    """
    describing = _SETUP_SECONDS + num_photographs * (pace.photograph + _CODES_SECONDS)
    training = 3600 * TRAINING_HOURS if hours is None else 3600 * hours - describing
    if hours is not None and training < max(_MIN_TRAINING_SECONDS, 0.2 * describing):
        needed = (describing + max(_MIN_TRAINING_SECONDS, 0.3 * describing)) / 3600
        raise ValueError(
            f"`hours` must be at least {math.ceil(100 * needed) / 100:g} on this machine, where "
            f"describing {num_photographs:,} photographs takes {describing / 60:.0f} minutes. "
            f"Received: {hours:g}"
        )
    context = _CONTEXT_SHARE * training
    rest = training - context
    affordable = int(_MAX_CLUSTERING * rest / _CLUSTERING_SECONDS)
    num_patches = min(_MAX_PATCHES, affordable, _MAX_PER_IMAGE * num_photographs)
    per_image = max(1, num_patches // num_photographs)
    clustering = per_image * num_photographs * _CLUSTERING_SECONDS
    a_copy = _CLUSTERED_SHARE * per_image * num_photographs * pace.patch
    low, high = _COPIES
    copies = min(high, max(low, int((rest - clustering) / a_copy)))
    context += max(0.0, rest - clustering - copies * a_copy)  # few photographs need no more
    return Plan(
        context_minutes=round(context / 60, 2),
        patches_per_image=per_image,
        copies=copies,
        seconds={
            "context": context,
            "clusters": clustering + copies * a_copy,
            "attributes": describing,
        },
    )
