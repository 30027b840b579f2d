"""What a Fast R-CNN training consists of, besides its photographs and its network."""

import dataclasses
import math

from keras_ctxattr.runs.callbacks import cosine_to_zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastRcnnRecipe:
    """Geometry, sampling, head and optimiser. The defaults suit minutes on a small machine.

    Attributes:
        min_side: pixels that a photograph's shorter side is scaled to, as far as `max_side` allows.
        max_side: pixels that the longer side has at most.
        images_per_batch: photographs in a step.
        regions_per_image: regions of each that are learnt from.
        foreground: share of these that are objects, at most.
        foreground_overlap: intersection over union from which a proposal is an object.
        background_overlap: overlap from which it is background, up to `foreground_overlap`: what
            touches an object teaches more than sky.
        flip: share of the photographs that are mirrored, 0 to 1.
        region_size: bins a side, in which a region is pooled.
        hidden_units: width of fc6 and fc7.
        dropout: share of fc6 and fc7 that training sets to 0.
        box_regression: whether boxes are refined; neither of the papers does.
        optimizer_steps: training steps.
        learning_rate: at the start.
        decay_steps: steps after which the rate is divided by 10, again and again; None for half a
            cosine to 0.
        backbone_rate: learning rate of the transferred layers over that of the others.
        momentum: of SGD.
        clip_norm: length that a step's gradient is cut to; None for none, as in the papers.
        warmup: share of the steps over which the rate rises linearly from 0.
        weight_decay: of kernels, as a penalty of half their squares.
        dtype_policy: a Keras dtype policy, or `"auto"`, see `keras_ctxattr.backbones.precision`.
        min_score: chances below this are not detections.
        max_overlap: overlap from which the less sure of two detections of a class goes.
        max_detections: most of them in a photograph.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Girshick 2015, section 2.3.
    """

    min_side: int = 300
    max_side: int = 400
    images_per_batch: int = 2
    regions_per_image: int = 64
    foreground: float = 0.25
    foreground_overlap: float = 0.5
    background_overlap: float = 0.1
    flip: float = 0.5
    region_size: int = 6
    hidden_units: int = 512
    dropout: float = 0.0
    box_regression: bool = False
    optimizer_steps: int = 1500
    learning_rate: float = 0.001
    decay_steps: int | None = None
    backbone_rate: float = 1.0
    momentum: float = 0.9
    clip_norm: float | None = 10.0
    warmup: float = 0.05
    weight_decay: float = 0.0005
    dtype_policy: str = "auto"
    min_score: float = 0.01
    max_overlap: float = 0.3
    max_detections: int = 100
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        _check_counts(self)
        _check_shares(self)
        if not 32 <= self.min_side <= self.max_side:
            raise ValueError(
                "`min_side` must be at least 32 and `max_side` no less. Received: "
                f"min_side={self.min_side}, max_side={self.max_side}"
            )
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(
                f"`learning_rate` must be over 0. Received: learning_rate={self.learning_rate}"
            )

    def rate_at(self, progress: float) -> float:
        """Gives the learning rate at a share (0 to 1) of the steps."""
        if progress < self.warmup:
            # Never 0: the first step, too, shall learn.
            return self.learning_rate * max(progress / self.warmup, 0.01)
        if self.decay_steps is None:
            return cosine_to_zero(self.learning_rate)(progress)
        step = round(progress * self.optimizer_steps)
        return self.learning_rate * 0.1 ** (step // self.decay_steps)


def _check_counts(recipe: FastRcnnRecipe) -> None:
    names = ("images_per_batch", "regions_per_image", "region_size", "hidden_units")
    for name in (*names, "optimizer_steps", "max_detections"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {getattr(recipe, name)}")
    if recipe.decay_steps is not None and recipe.decay_steps < 1:
        raise ValueError(f"`decay_steps` must be at least 1. Received: {recipe.decay_steps}")


def _check_shares(recipe: FastRcnnRecipe) -> None:
    names = ("foreground", "foreground_overlap", "background_overlap", "flip", "dropout")
    for name in (*names, "min_score", "max_overlap", "warmup"):
        if not 0 <= getattr(recipe, name) <= 1:
            raise ValueError(f"`{name}` must be 0 to 1. Received: {getattr(recipe, name)}")
