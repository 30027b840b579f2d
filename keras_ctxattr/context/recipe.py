"""What a context prediction run consists of, besides its images and its budget."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_ctxattr.backbones.networks import BACKBONES
from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.layers.normalization import IMAGENET_MEAN
from keras_ctxattr.layers.processing import COLOURS, PRESETS

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": lambda recipe: keras.optimizers.SGD(
        recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay or None
    ),
    "adamw": lambda recipe: keras.optimizers.AdamW(
        recipe.learning_rate, weight_decay=recipe.weight_decay, beta_2=0.99
    ),
}
DECAYS = ("cosine", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextRecipe:
    """Network, sampling, processing and optimiser of a run. The defaults are `small_photos`.

    Attributes:
        backbone: `"alexnet"`, `"vgg16"` or `"compact"`.
        backbone_options: keyword arguments of that function.
        hidden_units: width of fc7 and fc8.
        dropout: share of fc6, fc7 and fc8 that training sets to 0.
        preset: `"released"` or `"paper"`, where code and paper differ.
        colour: guard against chromatic aberration: `"drop"`, `"project"` or `"none"`.
        downsampling: share of the training patches that are downsampled, 0 to 1.
        mean: mean colour of the data set, 0 to 255, which preset `"paper"` subtracts.
        grids: geometry and batch.
        optimizer: `"sgd"` or `"adamw"`.
        learning_rate: peak, for the loss as a mean over pairs.
        momentum: of SGD.
        weight_decay: decoupled, per step and unit of learning rate.
        warmup: share of the budget over which the rate rises linearly from 0.
        decay: `"cosine"` to 0 over the rest of the budget, or `"constant"`.
        dtype_policy: a Keras dtype policy, or `"auto"`: mixed_bfloat16 where the processor (or a
            GPU) computes in it natively, else float32.
        evaluate_every: steps between held-out evaluations.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a name is unknown or a share is not in [0, 1].
    """

    backbone: str = "alexnet"
    backbone_options: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"num_features": 1024}
    )
    hidden_units: int = 1024
    dropout: float = 0.0
    preset: str = "released"
    colour: str = "drop"
    downsampling: float = 1 / 3
    mean: Sequence[float] = IMAGENET_MEAN
    grids: GridConfig = dataclasses.field(default_factory=GridConfig)
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    decay: str = "cosine"
    dtype_policy: str = "auto"
    evaluate_every: int = 100
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the names."""
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        for name, choices in (
            ("backbone", tuple(BACKBONES)),
            ("optimizer", tuple(OPTIMIZERS)),
            ("decay", DECAYS),
            ("preset", PRESETS),
            ("colour", COLOURS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {choices}. Received: {name}={getattr(self, name)!r}"
                )
        if not (0 <= self.warmup < 1 and self.learning_rate > 0):
            raise ValueError(
                "`warmup` must be at least 0 and under 1, and `learning_rate` over 0. Received: "
                f"warmup={self.warmup}, learning_rate={self.learning_rate}"
            )

    def rate_at(self, progress: float) -> float:
        """Gives the learning rate at a share (0 to 1) of the budget."""
        if progress < self.warmup:
            # Never 0: the first step, too, shall learn.
            return self.learning_rate * max(progress / self.warmup, 0.01)
        if self.decay == "constant":
            return self.learning_rate
        share = (progress - self.warmup) / (1 - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def build_predictor(recipe: ContextRecipe, seed: int = 0) -> ContextPredictor:
    """Gives a new, compiled model: its first weights depend on recipe and seed alone.

    Args:
        recipe: network, processing and optimiser.
        seed: seed of the weights; it also sets the seeds of Python, numpy and TensorFlow.
    """
    keras.utils.set_random_seed(seed)
    with dtype_policy(recipe.dtype_policy):
        backbone = BACKBONES[recipe.backbone](
            input_size=recipe.grids.patch_size, **_network_options(recipe)
        )
        model = ContextPredictor(
            backbone,
            preset=recipe.preset,
            colour=recipe.colour,
            patch_size=recipe.grids.patch_size,
            jitter=recipe.grids.jitter,
            downsampling=recipe.downsampling,
            mean=recipe.mean,
            hidden_units=recipe.hidden_units,
            dropout=recipe.dropout,
        )
        # XLA makes this model slower on a CPU; on a GPU Keras decides.
        jit = "auto" if model.supports_jit else False
        model.compile(optimizer=OPTIMIZERS[recipe.optimizer](recipe), jit_compile=jit)
    return model


def _network_options(recipe: ContextRecipe) -> dict[str, Any]:
    preset = {"preset": recipe.preset} if recipe.backbone == "alexnet" else {}
    return {**preset, **recipe.backbone_options}
