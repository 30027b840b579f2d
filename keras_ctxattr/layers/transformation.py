"""Random copies of patches, on the device: moved, scaled, rotated, and of other colours."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ctxattr.layers.replicas import num_replicas, own_rows

FULL_SCALE = 255.0
_NUM_DRAWS = 9  # a patch
_LIMITS = {
    "shift": (0, 1),
    "scale": (1, 100),
    "rotation": (0, 180),
    "contrast": (1, 100),
    "brightness": (0, 1),
    "saturation": (1, 100),
    "hue": (0, 180),
    "flip": (0, 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Transformations:
    """How each patch of a batch is transformed. All tensors are float32.

    The content is mirrored, scaled about the centre of the patch, rotated about it, then shifted.
    What comes into view at the borders is the patch's own mirror image.

    Attributes:
        shift: `[patches, 2]`, (right, down), as fractions of the side.
        scale: `[patches]`, above 0; above 1 enlarges.
        rotation: `[patches]`, degrees, counter-clockwise as one sees it (y points down).
        contrast: `[patches]`, factor of each value's difference from the mean of all the patch's
            values.
        brightness: `[patches]`, added, as a fraction of the full scale of 255.
        saturation: `[patches]`, factor of each pixel's difference from its own grey, which is the
            mean of its channels.
        hue: `[patches]`, degrees by which that difference turns about the grey axis: 120 takes red
            to green, green to blue and blue to red.
        flip: `[patches]`: -1 mirrors left and right, 1 does not.
    """

    shift: Any
    scale: Any
    rotation: Any
    contrast: Any
    brightness: Any
    saturation: Any
    hue: Any
    flip: Any


def draw_transformations(
    num_patches: Any,
    *,
    shift: float = 0.2,
    scale: float = 1.4,
    rotation: float = 20.0,
    contrast: float = 2.0,
    brightness: float = 0.1,
    saturation: float = 2.0,
    hue: float = 36.0,
    flip: float = 0.0,
    seed: Any = None,
) -> Transformations:
    """Draws transformations, independently for each patch and each of their parameters.

    Args:
        num_patches: Number of patches, an integer or a scalar tensor.
        shift: Largest shift per axis as a fraction of the side; uniform.
        scale: Largest factor, and the inverse of the smallest; log-uniform.
        rotation: Largest angle in degrees, either way; uniform.
        contrast: Largest factor, and the inverse of the smallest; log-uniform.
        brightness: Largest change, either way, as a fraction of the full scale; uniform.
        saturation: Largest factor, and the inverse of the smallest; log-uniform.
        hue: Largest angle in degrees, either way; uniform.
        flip: Share of the patches that are mirrored left to right.
        seed: An integer, a `keras.random.SeedGenerator`, or None.

    Returns:
        One transformation a patch.

    Raises:
        ValueError: If a range is impossible.
    """
    check_transformations(
        {
            "shift": shift,
            "scale": scale,
            "rotation": rotation,
            "contrast": contrast,
            "brightness": brightness,
            "saturation": saturation,
            "hue": hue,
            "flip": flip,
        }
    )
    # All draws at once: one kernel, one step of the generator.
    draws = keras.random.uniform((_NUM_DRAWS, num_patches), -1, 1, dtype="float32", seed=seed)
    return Transformations(
        shift=shift * ops.transpose(draws[:2]),
        scale=ops.power(scale, draws[2]),
        rotation=rotation * draws[3],
        contrast=ops.power(contrast, draws[4]),
        brightness=brightness * draws[5],
        saturation=ops.power(saturation, draws[6]),
        hue=hue * draws[7],
        flip=ops.where(draws[8] < 2.0 * flip - 1.0, -1.0, 1.0),
    )


def apply_transformation(patches: Any, transformations: Transformations) -> Any:
    """Transforms each patch: first its geometry, then its colours.

    Values between pixels are interpolated linearly; nothing is smoothed before it shrinks, which at
    factors near 1 does not matter. Outside the patch lies its mirror image, the border pixel twice
    (`c b a | a b c | c b a`, NumPy's "symmetric", Keras's "reflect").

    Args:
        patches: Float32 `[patches, size, size, 3]` on the 0-255 scale, `size` static.
        transformations: One a patch.

    Returns:
        Float32, the shape of `patches`, clipped to 0...255. Where a transformation changes nothing
        it is exactly the patch.
    """
    return _recolour(_warp(patches, transformations), transformations)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class RandomTransformation(keras.layers.Layer):
    """Shifts, scales, rotates and recolours each patch at random.

    It makes copies of a cluster's members from which a network learns what a cluster is, whatever
    the place, size, direction and light. Only in training. Computes in float32 under every dtype
    policy. `draw_transformations` and `apply_transformation` are its two halves. Several devices
    that share a batch transform its patches as one would.

    Call arguments:
        patches: uint8 (or float32 on the 0-255 scale) `[patches, size, size, 3]`, `size` static.
        training: whether to transform at all.

    Returns:
        float32, the shape of `patches`: in training clipped to 0 ... 255, otherwise the same values
        as they came.

    Args:
        shift: largest shift per axis as a fraction of the side, 0 to 1; uniform.
        scale: largest factor, at least 1, and the inverse of the smallest; log-uniform.
        rotation: largest angle in degrees, 0 to 180, either way; uniform.
        contrast: largest factor, at least 1, and the inverse of the smallest; log-uniform.
        brightness: largest change, either way, as a fraction of 255, 0 to 1; uniform.
        saturation: largest factor, at least 1, and the inverse of the smallest; log-uniform.
        hue: largest angle in degrees, 0 to 180, either way; uniform.
        flip: share of the patches that are mirrored left to right, 0 to 1.
        seed: seed of the draws, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Raises:
        ValueError: if a range is impossible, or patches are not square and of three channels.

    Reference:
        Huang, Loy, Tang 2016, section 3.1, names the kinds of transformations, not their ranges.
        These are after Dosovitskiy et al. 2014, section 2.1; hue and saturation are changed in a
        linear colour space instead of HSV, and no powers of them are taken. Mirroring is ours, and
        off unless asked for.
    """

    def __init__(
        self,
        shift: float = 0.2,
        scale: float = 1.4,
        rotation: float = 20.0,
        contrast: float = 2.0,
        brightness: float = 0.1,
        saturation: float = 2.0,
        hue: float = 36.0,
        flip: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.shift, self.scale, self.rotation = shift, scale, rotation
        self.contrast, self.brightness = contrast, brightness
        self.saturation, self.hue, self.flip = saturation, hue, flip
        check_transformations(self._ranges())
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the patches' shape."""
        if len(input_shape) != 4 or input_shape[1] is None or input_shape[1] != input_shape[2]:
            raise ValueError(
                "Patches must be [patches, size, size, 3], square and of a static side. "
                f"Received: shape {tuple(input_shape)}"
            )
        if input_shape[3] != 3:
            raise ValueError(
                "Patches must have three channels; repeat the one of grey patches. "
                f"Received: shape {tuple(input_shape)}"
            )

    def call(self, patches: Any, training: bool | None = None) -> Any:
        """Gives the patches, in training each transformed at random."""
        patches = ops.cast(patches, "float32")
        if not training:
            return patches
        count = ops.shape(patches)[0]
        drawn = draw_transformations(
            count * num_replicas(), **self._ranges(), seed=self.seed_generator
        )
        own = {name: own_rows(values, count) for name, values in vars(drawn).items()}
        return apply_transformation(patches, Transformations(**own))

    def compute_output_spec(self, patches: Any, training: bool | None = None) -> keras.KerasTensor:
        """Gives the shape and dtype of the transformed patches."""
        return keras.KerasTensor(patches.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {**super().get_config(), **self._ranges(), "seed": self.seed}

    def _ranges(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _LIMITS}


def check_transformations(ranges: Mapping[str, float]) -> None:
    """Refuses ranges that `draw_transformations` would refuse.

    Args:
        ranges: Some of its arguments, by name.

    Raises:
        ValueError: If a range is impossible.
    """
    for name, value in ranges.items():
        low, high = _LIMITS[name]
        if not low <= value <= high:  # NaN too
            raise ValueError(
                f"`{name}` must be between {low} and {high}; {low} switches it off. "
                f"Received: {name}={value}"
            )


# --- Geometry ---


def _warp(patches: Any, transformations: Transformations) -> Any:
    """Moves, scales and rotates. Four gathers, which XLA can fuse; the ready-made op it cannot."""
    size = patches.shape[1]
    rows, columns = _source_positions(size, transformations)
    top, left = (ops.floor(position) for position in (rows, columns))
    below, right = (ops.minimum(first + 1, size - 1) for first in (top, left))
    first_pixel = size * size * ops.arange(ops.shape(patches)[0], dtype="int32")[:, None, None]
    pixels = ops.reshape(patches, (-1, patches.shape[3]))

    def gather(row: Any, column: Any) -> Any:
        # Within a patch the number of a pixel is exact in float32 up to a side of 4096.
        index = ops.cast(row * size + column, "int32") + first_pixel
        return ops.take(pixels, index, axis=0)

    across, down = (columns - left)[..., None], (rows - top)[..., None]
    upper, lower = gather(top, left), gather(below, left)
    upper = upper + (gather(top, right) - upper) * across
    lower = lower + (gather(below, right) - lower) * across
    return upper + (lower - upper) * down


def _source_positions(size: int, transformations: Transformations) -> tuple[Any, Any]:
    """Gives where each pixel's value comes from: rows and columns `[patches, size, size]`."""
    centre = (size - 1) / 2
    # Offsets from the centre are multiples of a half: nothing is rounded where nothing changes.
    offsets = np.arange(size, dtype="float32") - centre
    moved = transformations.shift[:, :, None] * size
    across, down = offsets - moved[:, 0], offsets - moved[:, 1]  # [patch, column], [patch, row]
    angle = (transformations.rotation * (np.pi / 180))[:, None]
    cosine = ops.cos(angle) / transformations.scale[:, None]
    sine = ops.sin(angle) / transformations.scale[:, None]
    # The inverse: shift back, turn clockwise, divide by the scale, mirror.
    columns = (cosine * across)[:, None, :] - (sine * down)[:, :, None]
    columns = columns * transformations.flip[:, None, None]
    rows = (sine * across)[:, None, :] + (cosine * down)[:, :, None]
    return _mirror(rows + centre, size), _mirror(columns + centre, size)


def _mirror(positions: Any, size: int) -> Any:
    """Folds positions into the patch, which is mirrored about the outer edges of its pixels."""
    # The edges are at -0.5 and size - 0.5; half a pixel inside them there is the border pixel only.
    folded = ops.mod(positions + 0.5, 2.0 * size)
    return ops.clip(ops.minimum(folded, 2.0 * size - folded) - 0.5, 0.0, size - 1.0)


# --- Colour ---


def _recolour(patches: Any, transformations: Transformations) -> Any:
    """Changes hue, saturation, contrast and brightness by one affine map of the colours a patch."""
    size = patches.shape[1]
    contrast = transformations.contrast[:, None, None]
    # The grey of every pixel is kept by the matrix, so the mean can be taken before it.
    mean = ops.mean(patches, axis=(1, 2, 3))[:, None, None]
    added = (1 - contrast) * mean + FULL_SCALE * transformations.brightness[:, None, None]
    colours = ops.reshape(patches, (-1, size * size, 3))
    recoloured = ops.matmul(colours, contrast * _colour_matrices(transformations)) + added
    return ops.reshape(ops.clip(recoloured, 0.0, FULL_SCALE), ops.shape(patches))


def _colour_matrices(transformations: Transformations) -> Any:
    """Gives what row vectors of red, green and blue are multiplied by, `[patches, 3, 3]`."""
    identity = np.eye(3, dtype="float32")
    grey = np.full((3, 3), 1 / 3, "float32")
    # Rodrigues' formula for a turn about (1, 1, 1) / sqrt(3), transposed for row vectors.
    cross = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], "float32") / np.sqrt(3)
    angle = (transformations.hue * (np.pi / 180))[:, None, None]
    cosine, sine = ops.cos(angle), ops.sin(angle)
    turn = cosine * identity + sine * cross.astype("float32") + (1 - cosine) * grey
    saturation = transformations.saturation[:, None, None]
    # identity + (...) rather than its sum: exactly the identity where nothing changes.
    return identity + ops.matmul(saturation * turn - identity, identity - grey)
