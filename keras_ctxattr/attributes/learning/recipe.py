"""What learning attributes consists of, besides samples and their clusters."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeRecipe:
    """Loss, batches and optimiser. The defaults are for 32 x 32 images.

    The paper has `alpha=1, beta=1, contrast_size=None`. Ours are chosen on CIFAR-10, where hundreds
    of clusters show ten kinds of things: the hardest negative of a whole batch is then mostly of
    the same kind, and is pushed away. And the variance, which has no bound, draws all bits to the
    few directions along which features vary most, whatever these say of clusters.

    Attributes:
        num_attributes: K, a multiple of 8.
        alpha: weight of the variance of the projections.
        beta: weight of the dependence of the bits.
        gamma: weight of |W|^2.
        margin: of the triplet hinge in bits; None for K / 2.
        contrast_size: samples among which the hardest negative is looked for, a multiple of
            `samples_per_cluster`; None for the whole batch, as in the paper. See `triplet_hinges`.
        slope: of the sigmoid at the start.
        final_slope: of the sigmoid at the end; it grows by the same factor every step. None keeps
            it.
        literal_eq2: whether the terms are those printed, see `AttributeHasher`.
        passes: how often every clustered sample is seen, in the mean.
        min_steps: training steps at least, where so many passes are fewer.
        batch_size: samples in a training step.
        samples_per_cluster: samples of each cluster in a batch.
        learning_rate: of W at the start; it follows half a cosine to 0.
        backbone_rate: learning rate of the backbone over that of W; 0 freezes it.
        weight_decay: decoupled, per step and unit of learning rate.
        transformations: ranges of `RandomTransformation`, where they are not its defaults; None
            transforms nothing.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, for the loss; optimiser and passes are ours.
    """

    num_attributes: int = 64
    alpha: float = 0.0
    beta: float = 0.1
    gamma: float = 5e-4
    margin: float | None = None
    contrast_size: int | None = 8
    slope: float = 1.0
    final_slope: float | None = None
    literal_eq2: bool = False
    passes: int = 3
    min_steps: int = 0
    batch_size: int = 256
    samples_per_cluster: int = 2
    learning_rate: float = 1e-3
    backbone_rate: float = 0.1
    weight_decay: float = 1e-3
    transformations: Mapping[str, float] | None = dataclasses.field(
        default_factory=lambda: {"flip": 0.5}
    )
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks what the model and the batches do not."""
        if self.passes < 1 or self.checkpoint_minutes <= 0:
            raise ValueError(
                "`passes` must be at least 1 and `checkpoint_minutes` over 0. Received: "
                f"passes={self.passes}, checkpoint_minutes={self.checkpoint_minutes}"
            )
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                "`learning_rate` must be over 0 and `weight_decay` not below. Received: "
                f"learning_rate={self.learning_rate}, weight_decay={self.weight_decay}"
            )
        if self.contrast_size is not None and (
            self.contrast_size < 2 * self.samples_per_cluster
            or self.contrast_size % self.samples_per_cluster
        ):
            raise ValueError(
                "`contrast_size` must be a multiple of `samples_per_cluster`, twice that at least, "
                f"or there is no negative. Received: contrast_size={self.contrast_size}, "
                f"samples_per_cluster={self.samples_per_cluster}"
            )
        if not all(math.isfinite(value) for value in (self.alpha, self.beta, self.gamma)):
            raise ValueError(
                "`alpha`, `beta` and `gamma` must be finite. Received: "
                f"{self.alpha}, {self.beta}, {self.gamma}"
            )
        if self.final_slope is not None and not self.final_slope > 0:
            raise ValueError(f"`final_slope` must be over 0. Received: {self.final_slope}")
