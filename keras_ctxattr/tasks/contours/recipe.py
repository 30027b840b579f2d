"""What training a contour network consists of, besides photographs and their contours."""

import dataclasses

EXAMPLES = ("crops", "patches")
OPTIMIZERS = ("adam", "sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContourRecipe:
    """Network, crops and optimiser. The defaults are for a small machine.

    Attributes:
        widths: channels of the four convolutions.
        hidden_units: of the layer before the outputs.
        dropout: share of these that training sets to 0.
        normalize: whether batch normalisation follows each convolution; the papers have none.
        local_response: whether local response normalisation within channels follows the first
            three, as in the papers; a network that pads nothing then sees 135 pixels, not 107.
        examples: `"crops"`: the network is evaluated at many places of crops at once; or
            `"patches"`, as in the papers: of patches of 45 x 45 pixels, zeros around them.
        crops_per_batch: crops in a step, each of another photograph.
        positions: places of a crop where the network is evaluated, a side; 8 pixels apart.
        min_distance: pixels from every contour from which a pixel is an example of none; what is
            nearer and no contour itself is left out.
        flip: whether crops are mirrored and turned by quarters.
        optimizer_steps: training steps.
        optimizer: `"adam"`, or `"sgd"` with a momentum of .9.
        learning_rate: at the start.
        drop_steps: steps after which the rate is divided by 10, again and again; None: it follows
            half a cosine to 0.
        contour_share: weight of the contours' loss; the rest is that of the other pixels.
        attribute_weight: weight of the attributes' loss beside the contours'.
        patches_per_batch: patches in a step, half of them on contours.
        patches_per_crop: contour patches of a crop whose attributes are learnt, at most.
        dtype_policy: a Keras dtype policy, or `"auto"`, see `keras_ctxattr.backbones.precision`.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a number is impossible.

    Reference:
        Shen, Wang, Wang, Bai, Zhang 2015, "DeepContour", whose network the widths are of; Huang,
        Loy, Tang 2016, section 5.
    """

    widths: tuple[int, int, int, int] = (32, 48, 64, 128)
    hidden_units: int = 128
    dropout: float = 0.5
    normalize: bool = True
    local_response: bool = False
    examples: str = "crops"
    crops_per_batch: int = 4
    positions: int = 24
    min_distance: float = 2.0
    flip: bool = True
    optimizer_steps: int = 5000
    optimizer: str = "adam"
    learning_rate: float = 0.001
    drop_steps: int | None = None
    contour_share: float = 0.5
    attribute_weight: float = 1.0
    patches_per_batch: int = 64
    patches_per_crop: int = 32
    dtype_policy: str = "auto"
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        counts = (
            "hidden_units",
            "crops_per_batch",
            "positions",
            "optimizer_steps",
            "patches_per_batch",
            "patches_per_crop",
        )
        wrong = [name for name in counts if getattr(self, name) < 1]
        if not (self.min_distance > 1 and self.attribute_weight >= 0):
            raise ValueError(
                "`min_distance` must be over 1, and `attribute_weight` not under 0. Received: "
                f"min_distance={self.min_distance}, attribute_weight={self.attribute_weight}"
            )
        if len(self.widths) != 4 or min(self.widths) < 1:
            wrong.append("widths")
        if wrong:
            raise ValueError(
                f"`{'`, `'.join(wrong)}` must be at least 1, and `widths` four. "
                f"Received: {', '.join(f'{name}={getattr(self, name)}' for name in wrong)}"
            )
        for name, choices in (("examples", EXAMPLES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(choices)}. Received: {getattr(self, name)}"
                )
        if self.drop_steps is not None and self.drop_steps < 1:
            raise ValueError(f"`drop_steps` must be at least 1. Received: {self.drop_steps}")
        if not (0 <= self.dropout < 1 and 0 < self.contour_share < 1 and self.learning_rate > 0):
            raise ValueError(
                "`dropout` must be at least 0 and under 1, `contour_share` between 0 and 1 and "
                f"`learning_rate` over 0. Received: dropout={self.dropout}, "
                f"contour_share={self.contour_share}, learning_rate={self.learning_rate}"
            )
