"""From cut patches to what the network sees, as either of the two published recipes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ctxattr.layers.augmentation import ColourDropping, ColourProjection, RandomDownsampling
from keras_ctxattr.layers.normalization import (
    IMAGENET_MEAN,
    ContrastNormalization,
    MeanSubtraction,
)

PRESETS = ("released", "paper")
COLOURS = ("drop", "project", "none")


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PatchProcessing(keras.layers.Layer):
    """Downsamples, guards the colour of, and normalises patches.

    `released`: random downsampling, then colour, then contrast normalisation to an RMS of 50.
    `paper`: the data set's mean is subtracted, then colour, then random downsampling. Downsampling
    acts in training only; colour always, because it defines the task. Computes in float32 under
    every dtype policy.

    Call arguments:
        patches: uint8 (or float32 on the 0-255 scale) `[patches, size, size, 3]`.
        training: whether to downsample.

    Returns:
        float32 `[patches, size, size, 3]`, about zero mean, on the 0-255 scale.

    Args:
        preset: `"released"` or `"paper"`: which of the two, where code and paper differ.
        colour: guard against chromatic aberration: `"drop"`, `"project"` or `"none"`.
        downsampling: share of the training patches that are downsampled, 0 to 1.
        mean: mean colour of the data set, 0 to 255, for `"paper"`.
        seed: seed of all draws, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if `preset` or `colour` is unknown.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.1, and the released code.
    """

    def __init__(
        self,
        preset: str = "released",
        colour: str = "drop",
        downsampling: float = 1 / 3,
        mean: Sequence[float] = IMAGENET_MEAN,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if preset not in PRESETS or colour not in COLOURS:
            raise ValueError(
                f"`preset` must be one of {PRESETS} and `colour` one of {COLOURS}. "
                f"Received: preset={preset!r}, colour={colour!r}"
            )
        self.preset, self.colour, self.downsampling = preset, colour, downsampling
        self.mean, self.seed = tuple(mean), seed
        self.steps = self._released() if preset == "released" else self._paper()

    def _released(self) -> list[keras.layers.Layer]:
        steps: list[keras.layers.Layer] = [self._downsampler()]
        steps += self._colour_guard(noise="uniform")
        return [*steps, ContrastNormalization(self.colour != "drop", dtype="float32")]

    def _paper(self) -> list[keras.layers.Layer]:
        guard = self._colour_guard(noise="gaussian")
        return [MeanSubtraction(self.mean, dtype="float32"), *guard, self._downsampler()]

    def _downsampler(self) -> RandomDownsampling:
        return RandomDownsampling(self.downsampling, seed=self.seed, dtype="float32")

    def _colour_guard(self, noise: str) -> list[keras.layers.Layer]:
        if self.colour == "drop":
            return [ColourDropping(noise, seed=self.seed, dtype="float32")]
        return [ColourProjection(dtype="float32")] if self.colour == "project" else []

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds every step on the patches' shape."""
        for step in self.steps:
            step.build(input_shape)

    def call(self, patches: Any, training: bool | None = None) -> Any:
        """Gives what the network sees."""
        patches = ops.cast(patches, "float32")
        for step in self.steps:
            if isinstance(step, RandomDownsampling):
                patches = step(patches, training=training)
            else:
                patches = step(patches)
        return patches

    def compute_output_spec(self, patches: Any, training: bool | None = None) -> keras.KerasTensor:
        """Gives the shape and dtype of what the network sees."""
        return keras.KerasTensor(patches.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {
            "preset": self.preset,
            "colour": self.colour,
            "downsampling": self.downsampling,
            "mean": self.mean,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}
