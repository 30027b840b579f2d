"""What an R-CNN consists of, besides photographs, proposals and the network it starts from."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_ctxattr.runs.callbacks import cosine_to_zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class RcnnRecipe:
    """Geometry, network, sampling, optimiser, SVMs and suppression.

    The defaults suit a small machine and weights that are rescaled first. The papers have
    `reduced_channels=1024, hidden_units=4096, crops_per_batch=128, learning_rate=0.001,
    fresh_rate=10, clip_norm=None, warmup=0, max_proposals=None` and, for 70 000 steps,
    `decay_steps=20_000`.

    Attributes:
        crop_side: pixels of a side that regions are warped to; 7 x 7 cells of pool5 at 227, and at
            224 for VGG-16.
        context: pixels of it, at each end, that show what is around the region.
        max_proposals: proposals of a photograph that are looked at, the first ones; None for all,
            which are two thousand passes through the network or so.
        max_side: pixels that a photograph's longer side has at most; larger ones are scaled down.
            Those of VOC have 500.
        reduced_channels: width of conv6b.
        hidden_units: width of fc7, the representation.
        dropout: share of fc7 that training sets to 0.
        images_per_batch: photographs that the crops of a step are of. (R-CNN takes each crop from
            any photograph; but to decode one takes as long as to warp dozens of crops.)
        crops_per_batch: regions in a step.
        foreground: share of these that are objects.
        foreground_overlap: intersection over union from which a region is an object; under it, it
            is background.
        flip: share of the crops that are mirrored.
        optimizer_steps: training steps.
        learning_rate: at the start.
        decay_steps: steps after which the rate is divided by 10, again and again; None for half a
            cosine to 0.
        warmup: share of the steps over which the rate rises linearly from 0.
        fresh_rate: learning rate of conv6b, fc7 and fc8 over that of the transferred layers.
        momentum: of SGD.
        clip_norm: length that a step's gradient is cut to; None for none.
        weight_decay: of kernels, as a penalty of half their squares.
        dtype_policy: a Keras dtype policy, or `"auto"`, see `keras_ctxattr.backbones.precision`.
        crops_per_chunk: regions that are described at a time, once trained.
        svms: whether linear SVMs on fc7 score regions; else the softmax that was trained does.
        svm_c: weight of a sample's loss where features have the norm `svm_norm`.
        svm_norm: mean norm that features are brought to.
        svm_overlap: intersection over union with objects of a class under which a proposal is a
            negative of its SVM.
        svm_cache: negatives that are kept at most.
        svm_refresh: new ones after which the SVMs are solved again.
        min_score: chances below this are not detections.
        min_svm_score: scores of SVMs below this are not.
        max_overlap: overlap from which the less sure of two detections of a class goes.
        max_detections: most of them in a photograph.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Girshick et al. 2014, sections 2.3 and 2.4 and appendix B; Doersch, Gupta, Efros 2015,
        section 4.3.
    """

    crop_side: int = 227
    context: int = 16
    max_proposals: int | None = 300
    max_side: int = 500
    reduced_channels: int = 256
    hidden_units: int = 512
    dropout: float = 0.5
    images_per_batch: int = 4
    crops_per_batch: int = 32
    foreground: float = 0.25
    foreground_overlap: float = 0.5
    flip: float = 0.5
    optimizer_steps: int = 1000
    learning_rate: float = 0.005
    decay_steps: int | None = None
    warmup: float = 0.05
    fresh_rate: float = 1.0
    momentum: float = 0.9
    clip_norm: float | None = 10.0
    weight_decay: float = 0.0005
    dtype_policy: str = "auto"
    crops_per_chunk: int = 64
    svms: bool = True
    svm_c: float = 0.001
    svm_norm: float = 20.0
    svm_overlap: float = 0.3
    svm_cache: int = 50_000
    svm_refresh: int = 5_000
    min_score: float = 0.01
    min_svm_score: float = -1.0
    max_overlap: float = 0.3
    max_detections: int = 100
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        _check_counts(self)
        _check_shares(self)
        _check_positive(self)
        if not 0 <= 2 * self.context < self.crop_side:
            raise ValueError(
                "`context` must be 0 to less than half of `crop_side`. Received: "
                f"context={self.context}, crop_side={self.crop_side}"
            )
        if not 0 < self.num_foreground < self.crops_per_batch:
            raise ValueError(
                "`foreground` must leave an object and a background in every batch. Received: "
                f"foreground={self.foreground}, crops_per_batch={self.crops_per_batch}"
            )

    @property
    def num_foreground(self) -> int:
        """Objects in a batch."""
        return round(self.foreground * self.crops_per_batch)

    def rate_at(self, progress: float) -> float:
        """Gives the learning rate at a share (0 to 1) of the steps."""
        if progress < self.warmup:
            # Never 0: the first step, too, shall learn.
            return self.learning_rate * max(progress / self.warmup, 0.01)
        if self.decay_steps is None:
            return cosine_to_zero(self.learning_rate)(progress)
        step = round(progress * self.optimizer_steps)
        return self.learning_rate * 0.1 ** (step // self.decay_steps)

    def first(self, proposals: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Gives of each photograph's proposals those that are looked at."""
        return [boxes[: self.max_proposals] for boxes in proposals]


def _check_counts(recipe: RcnnRecipe) -> None:
    sizes = ("crop_side", "max_side", "reduced_channels", "hidden_units", "max_detections")
    counts = ("images_per_batch", "crops_per_batch", "crops_per_chunk", "svm_cache", "svm_refresh")
    for name in (*sizes, *counts, "optimizer_steps", "decay_steps", "max_proposals"):
        value = getattr(recipe, name)
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {value}")


def _check_shares(recipe: RcnnRecipe) -> None:
    names = ("foreground", "foreground_overlap", "flip", "warmup", "svm_overlap", "min_score")
    for name in (*names, "max_overlap"):
        if not 0 <= getattr(recipe, name) <= 1:
            raise ValueError(f"`{name}` must be 0 to 1. Received: {getattr(recipe, name)}")
    for name in ("dropout", "momentum"):
        if not 0 <= getattr(recipe, name) < 1:
            raise ValueError(f"`{name}` must be 0 to below 1. Received: {getattr(recipe, name)}")


def _check_positive(recipe: RcnnRecipe) -> None:
    names = ("learning_rate", "fresh_rate", "clip_norm", "svm_c", "svm_norm")
    for name in (*names, "checkpoint_minutes"):
        value = getattr(recipe, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be over 0. Received: {value}")
    if not 0 <= recipe.weight_decay < math.inf or math.isnan(recipe.min_svm_score):
        raise ValueError(
            "`weight_decay` must not be under 0, and `min_svm_score` a number. Received: "
            f"weight_decay={recipe.weight_decay}, min_svm_score={recipe.min_svm_score}"
        )
