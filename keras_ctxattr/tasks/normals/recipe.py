"""What fine-tuning for surface normals consists of, besides frames and a network."""

import dataclasses

from keras_ctxattr.tasks.normals.frames import RADIUS


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalsRecipe:
    """Head, crops and optimiser. The defaults are for a small machine.

    Attributes:
        longer_side: pixels that photographs are scaled to before they reach the network, in
            training and in use.
        head_widths: channels of the 3 x 3 convolutions between the network's map and the normals.
        train_backbone: whether the network learns too, or its head alone.
        frames_per_batch: frames in a step.
        max_zoom: the smallest crop is a frame's size over this; 1 takes frames whole.
        flip: whether half of the frames are mirrored left to right.
        colour_jitter: each channel of a frame is multiplied by 1 plus or minus this at most.
        radius: pixels to each side that a normal is fitted to, in the depth's own size; the
            measures are of these normals.
        optimizer_steps: training steps.
        learning_rate: of Adam at the start; it follows half a cosine to 0.
        dtype_policy: a Keras dtype policy, or `"auto"`, see `keras_ctxattr.backbones.precision`.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a number is impossible.
    """

    longer_side: int = 320
    head_widths: tuple[int, ...] = (256, 128)
    train_backbone: bool = True
    frames_per_batch: int = 4
    max_zoom: float = 1.3
    flip: bool = True
    colour_jitter: float = 0.2
    radius: int = RADIUS
    optimizer_steps: int = 500
    learning_rate: float = 3e-4
    dtype_policy: str = "auto"
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        counts = ("longer_side", "frames_per_batch", "radius", "optimizer_steps")
        wrong = [name for name in counts if getattr(self, name) < 1]
        if not self.head_widths or min(self.head_widths) < 1:
            wrong.append("head_widths")
        if wrong:
            raise ValueError(
                f"`{'`, `'.join(wrong)}` must be at least 1, and there must be `head_widths`. "
                f"Received: {', '.join(f'{name}={getattr(self, name)}' for name in wrong)}"
            )
        if not (self.max_zoom >= 1 and 0 <= self.colour_jitter < 1 and self.learning_rate > 0):
            raise ValueError(
                "`max_zoom` must be at least 1, `colour_jitter` at least 0 and under 1 and "
                f"`learning_rate` over 0. Received: max_zoom={self.max_zoom}, "
                f"colour_jitter={self.colour_jitter}, learning_rate={self.learning_rate}"
            )
