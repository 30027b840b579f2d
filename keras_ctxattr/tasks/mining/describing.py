"""What describes all patches of a photograph in one pass: a module, or gradients."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.export import locate_module, read_module
from keras_ctxattr.features.descriptors.hog import HOG, describe_whole
from keras_ctxattr.tasks.comparison.networks import draw_weights

_REACH = 512  # pixels over which the stride of a network is measured: it divides them
_CELLS = (6, 4, 8)  # of HOG along a patch, the first choice first
_MARGIN = 2 / 3  # of a patch: as far as AlexNet's layers together are padded, and a little more

Describe = Callable[[tf.Tensor], Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DenseDescriber:
    """Describes the patches of a photograph on a lattice, all in one pass.

    Attributes:
        name: What it is called in tables.
        patch_size: Side of a patch in pixels.
        stride: Pixels between neighbouring patches; it divides `patch_size`, so that patches of the
            lattice touch.
        num_features: Length of a vector.
        describe: From float32 `[height, width, 3]`, RGB in 0 to 255, both sides `patch_size` plus
            a multiple of `stride`, to float32 `[rows, columns, num_features]`: row and column
            count strides from the upper left patch.
        config: What features depend on, JSON types.

    Raises:
        ValueError: If the stride does not divide the patch.
    """

    name: str
    patch_size: int
    stride: int
    num_features: int
    describe: Describe
    config: dict[str, Any]

    def __post_init__(self) -> None:
        """Checks that patches can touch."""
        if self.stride < 1 or self.patch_size % self.stride:
            raise ValueError(
                "The stride of a network must divide its patches, or none of them touch. "
                f"Received: {self.name} with a stride of {self.stride} pixels and patches of "
                f"{self.patch_size}"
            )


def describe_by_module(folder: str | Path, *, untrained_seed: int | None = None) -> DenseDescriber:
    """Gives the describer of a module: its `feature_map`.

    The map is that of the whole photograph: next to a patch's border the network sees what lies
    beyond it, where in training it saw zeros, and contrast is that of the photograph. The
    photograph is mirrored at its edges: a network tells zeros beyond them from everything else, and
    so patches would match by where they lie.

    Args:
        folder: A module, or a folder that holds one.
        untrained_seed: Draws the network's weights anew, to compare.

    Raises:
        ValueError: If there is no module, or its maps do not grow with the image.
    """
    place = locate_module(folder)
    module = tf.saved_model.load(str(place))
    described = read_module(place)
    name = Path(folder).name or str(folder)
    if untrained_seed is not None:
        draw_weights(module, untrained_seed)
        name = f"{name}, untrained"
    patch_size = described["patch_size"]

    def describe(image: tf.Tensor) -> tf.Tensor:
        return module.feature_map(image[None] / 255)[0]

    stride = _measure_stride(describe, patch_size, str(folder))
    cells = -(-round(_MARGIN * patch_size) // stride)

    def describe_inside(image: tf.Tensor) -> tf.Tensor:
        margin = [cells * stride] * 2
        padded = tf.pad(image, [margin, margin, [0, 0]], "REFLECT")
        return describe(padded)[cells:-cells, cells:-cells]

    return DenseDescriber(
        name=name,
        patch_size=patch_size,
        stride=stride,
        num_features=described["num_features"],
        describe=describe_inside,
        config={
            "module": _digest(module),
            "patch_size": patch_size,
            "processing": described["processing"],
            "margin": cells * stride,
        },
    )


def describe_by_gradients(patch_size: int = 96, stride: int | None = None) -> DenseDescriber:
    """Gives the describer of histograms of oriented gradients (HOG).

    A patch has 6 x 6 cells, or 4 x 4 or 8 x 8 where these fit its side and the stride.

    Args:
        patch_size: Side of a patch in pixels.
        stride: Pixels between patches, whole cells; None for the side of two cells.

    Raises:
        ValueError: If no cells fit the patch and the stride.
    """
    sides = [patch_size // count for count in _CELLS if patch_size % count == 0]
    cell = next((side for side in sides if stride is None or stride % side == 0), None)
    if cell is None:
        raise ValueError(
            f"`patch_size` must be a multiple of 6, 4 or 8, and `stride` of such a cell's side. "
            f"Received: patch_size={patch_size}, stride={stride}"
        )
    descriptor = HOG(patch_size, cell=cell)
    step = 2 if stride is None else stride // cell

    def describe(image: tf.Tensor) -> np.ndarray:
        pixels = np.rint(np.asarray(image)).astype(np.uint8)
        return describe_whole(descriptor, pixels)[::step, ::step]

    return DenseDescriber(
        name="HOG",
        patch_size=patch_size,
        stride=step * cell,
        num_features=descriptor.num_features,
        describe=describe,
        config={**descriptor.config, "stride": step * cell},
    )


def _measure_stride(describe: Describe, patch_size: int, name: str) -> int:
    """Gives the pixels between places of a map, by how much it grows with the image."""
    small, large = (
        describe(tf.zeros([side, patch_size, 3])).shape[0]
        for side in (patch_size, patch_size + _REACH)
    )
    if small != 1 or large <= small or _REACH % (large - small):
        raise ValueError(
            "A module must give one vector a patch, and more for larger images at equal steps. "
            f"Received: {name} with {small} for {patch_size} pixels and {large} for "
            f"{patch_size + _REACH}"
        )
    return _REACH // (large - small)


def _digest(module: Any) -> str:
    """Tells weights apart: a hash of them all."""
    found = hashlib.blake2b(digest_size=16)
    for variable in module.variables:
        found.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return found.hexdigest()
