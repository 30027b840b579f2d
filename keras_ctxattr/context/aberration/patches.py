"""Patches of photographs seen through such a lens, and where they are."""

import dataclasses

import tensorflow as tf

from keras_ctxattr.context.aberration.optics import add_lateral_aberration, check_strength
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionConfig:
    """Which patches a `PositionRegressor` sees.

    Attributes:
        strength: aberration added to the photographs, pixels of shift at their corners.
        patch_size: side of a patch in pixels.
        images_per_batch: photographs loaded for one step.
        patches_per_image: patches of each, at uniformly random places.
        min_pixels: smallest area to which a photograph is scaled, before aberration is added.
        max_pixels: largest such area.
    """

    strength: float = 2.0
    patch_size: int = 96
    images_per_batch: int = 8
    patches_per_image: int = 16
    min_pixels: int = 150_000
    max_pixels: int = 450_000

    def __post_init__(self) -> None:
        """Checks what `GridConfig` does not."""
        check_strength(self.strength)

    @property
    def grids(self) -> GridConfig:
        """How photographs are loaded: as for the pretext task. Its grids are not used."""
        return GridConfig(
            patch_size=self.patch_size,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            grids_per_image=1,
            images_per_batch=self.images_per_batch,
            patches_per_batch=self.images_per_batch * self.patches_per_image,
            pairs_per_batch=2,
        )


def position_batches(
    manifest: Manifest,
    config: PositionConfig | None = None,
    *,
    seed: int = 0,
    num_steps: int | None = None,
) -> tf.data.Dataset:
    """Gives patches of photographs with aberration added, and where they are.

    Args:
        manifest: the photographs.
        config: which patches, `PositionConfig()` if None.
        seed: seed of all draws; batches are a function of it and their number.
        num_steps: number of batches, endless if None. `len(manifest) // images_per_batch` batches
            show each photograph at most once.

    Returns:
        A dataset of dicts: `canvases`, `sizes`, `corners` as `grid_batches` gives them (the
        patches of one image follow one another), and `positions` float32 `[patches, 2]`, (x, y) of
        each patch's centre as fractions of the image's width and height.

    Raises:
        ValueError: if no image is usable.
    """
    config = config or PositionConfig()
    batches = grid_batches(manifest, config.grids, seed=seed, num_steps=num_steps)
    return batches.map(
        lambda batch: _place_patches(batch, config), num_parallel_calls=2, deterministic=True
    ).prefetch(2)


def _place_patches(batch: dict[str, tf.Tensor], config: PositionConfig) -> dict[str, tf.Tensor]:
    sizes = batch["sizes"]

    def aberrate(inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        canvas, size = inputs
        num_pixels = size[0] * size[1]
        image = tf.reshape(canvas[:num_pixels], [size[0], size[1], 3])
        image = tf.reshape(add_lateral_aberration(image, config.strength), [-1, 3])
        return tf.concat([image, canvas[num_pixels:]], axis=0)

    canvases = tf.map_fn(
        aberrate,
        (batch["canvases"], sizes),
        fn_output_signature=tf.TensorSpec([config.max_pixels, 3], tf.uint8),
    )
    image = tf.repeat(tf.range(config.images_per_batch), config.patches_per_image)
    size = tf.gather(sizes, image)  # [patch, axis]
    room = tf.cast(size - config.patch_size + 1, tf.float32)
    draws = tf.random.stateless_uniform(
        [config.images_per_batch * config.patches_per_image, 2], batch["seed"][0]
    )
    corner = tf.cast(draws * room, tf.int32)
    centre = (tf.cast(corner, tf.float32) + config.patch_size / 2) / tf.cast(size, tf.float32)
    return {
        "canvases": canvases,
        "sizes": sizes,
        "corners": tf.concat([image[:, None], corner], axis=-1),
        "positions": centre[:, ::-1],
    }
