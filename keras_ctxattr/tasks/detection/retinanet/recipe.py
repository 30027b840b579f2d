"""What training a RetinaNet consists of, besides photographs and the network to start from."""

import dataclasses
import math

from keras_ctxattr.runs.callbacks import cosine_to_zero

POLICIES = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_COARSEST = 32  # pixels between the cells of the last map of the network to start from


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetinaNetRecipe:
    """Photographs, detector, loss and optimiser. The defaults are for a small machine.

    Attributes:
        image_size: Pixels to which the longer side of a photograph is scaled, and side of the
            canvas it is on; a multiple of 32.
        flip: Share of the photographs that training mirrors, 0 to 1.
        min_level: Finest level of the pyramid, 3 to 5; a level's cells are 2**level pixels apart.
        max_level: Coarsest level, 5 to 7.
        anchor_size: Side of a level's smallest anchor over the distance of its cells; two larger
            ones, each by 2**(1/3), come on top.
        head_layers: Convolutions before the last in each of the two heads.
        box_weight: Weight of the boxes' loss beside that of the classes.
        images_per_batch: Photographs in a training step.
        optimizer_steps: Training steps.
        learning_rate: Of Adam, at the start; it follows half a cosine to 0.
        warmup: Share of the steps over which the rate rises linearly from 0.
        gradient_norm: To which longer gradients are shortened.
        min_score: Detections below it are dropped, 0 to 1.
        max_overlap: Intersection over union above which the lower of two detections of one class
            is dropped, 0 to 1.
        max_detections: Of one photograph.
        dtype_policy: In what the detector computes; `"auto"` is mixed_bfloat16 where the machine
            has it. Losses and boxes are float32.
        checkpoint_minutes: Time between checkpoints.

    Raises:
        ValueError: If a number is impossible.

    Reference:
        Lin, Goyal, Girshick, He, Dollar 2017, "Focal loss for dense object detection".
    """

    image_size: int = 256
    flip: float = 0.5
    min_level: int = 3
    max_level: int = 6
    anchor_size: float = 4.0
    head_layers: int = 2
    box_weight: float = 5.0
    images_per_batch: int = 4
    optimizer_steps: int = 1200
    learning_rate: float = 5e-4
    warmup: float = 0.05
    gradient_norm: float = 10.0
    min_score: float = 0.05
    max_overlap: float = 0.5
    max_detections: int = 100
    dtype_policy: str = "auto"
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.image_size < _COARSEST or self.image_size % _COARSEST:
            raise ValueError(
                "`image_size` must be a multiple of 32, or the pyramid's maps do not fit on each "
                f"other. Received: {self.image_size}"
            )
        if not (3 <= self.min_level <= 5 <= self.max_level <= 7):
            raise ValueError(
                "Levels must be 3 to 7, among them 5. Received: "
                f"min_level={self.min_level}, max_level={self.max_level}"
            )
        for name in ("images_per_batch", "optimizer_steps", "head_layers", "max_detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}")
        for name in ("flip", "min_score", "max_overlap", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be 0 to 1. Received: {getattr(self, name)}")
        positive = ("learning_rate", "gradient_norm", "anchor_size", "checkpoint_minutes")
        for name in (*positive, "box_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be over 0. Received: {getattr(self, name)}")
        if self.dtype_policy not in POLICIES:
            raise ValueError(
                f"`dtype_policy` must be one of {POLICIES}. Received: {self.dtype_policy!r}"
            )

    def rate_at(self, progress: float) -> float:
        """Gives the learning rate at a share (0 to 1) of the steps."""
        # Never 0: the first step, too, shall learn.
        rise = max(progress / self.warmup, 0.01) if progress < self.warmup else 1.0
        return rise * cosine_to_zero(self.learning_rate)(progress)
