"""From loaded images to patches and pairs: grids, neighbours in them, patches that fill up."""

import tensorflow as tf

from keras_ctxattr.data.grids.config import GridConfig

POSITIONS = ("up-left", "up", "up-right", "left", "right", "down-left", "down", "down-right")
# The four neighbours that come later in row-major order: (row step, column step, position). The
# reversed pair has position 7 - p, so emitting both keeps p and 7 - p exactly balanced.
_FORWARD = ((0, 1, 4), (1, -1, 5), (1, 0, 6), (1, 1, 7))
_LAYOUT_STREAM = 2  # of the draws here, of group 0; the next groups have the next numbers


def assemble_group(
    images: dict[str, tf.Tensor], config: GridConfig, seed: int
) -> dict[str, tf.Tensor]:
    """Turns the loaded images of a group into its patches and pairs.

    Args:
        images: `canvas` uint8 `[images, max_pixels, 3]`, `size` and `redraws` of each, `origins`
            int32 `[images, grids, 2]`, and `step` and `group` int64 `[images]`, all equal.
        config: geometry; counts of a whole batch.
        seed: seed of the run.

    Returns:
        What `grid_batches` gives, of one group.
    """
    stream = tf.stack([tf.constant(seed, tf.int64), _LAYOUT_STREAM + images["group"][0]])
    key = tf.random.fold_in(stream, images["step"][0])
    num_patches = config.patches_per_batch // config.num_groups
    cells = _lay_grids(images["size"], images["origins"], config)
    rank = tf.cumsum(tf.cast(cells["valid"], tf.int32)) - 1
    slot = tf.where(cells["valid"] & (rank < num_patches), rank, -1)
    pairs, mask = _pair_up(cells, slot, config.pairs_per_batch // config.num_groups)
    corners = cells["corners"][slot >= 0]
    return {
        "canvases": images["canvas"],
        "sizes": images["size"],
        "corners": _fill_up(corners, images["size"], config.patch_size, num_patches, key),
        "pairs": pairs,
        "pair_mask": mask,
        "seed": tf.random.stateless_uniform([2], key, 0, 2**31 - 1, tf.int32),
        "redraws": tf.reduce_sum(images["redraws"]),
    }


def merge_groups(groups: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Turns groups that are stacked into one batch.

    Args:
        groups: what `assemble_group` gives, each with a first axis `[groups]`.

    Returns:
        The same without that axis: images and patches are counted through; `seed` int32
        `[groups, 2]` has one row a group.
    """
    count, num_images = groups["canvases"].shape[:2]
    num_patches = groups["corners"].shape[1]
    group = tf.range(count)[:, None]
    corners, pairs = groups["corners"], groups["pairs"]
    image = corners[..., :1] + (group * num_images)[..., None]
    ends = pairs[..., :2] + (group * num_patches)[..., None]
    flat = {
        **{name: groups[name] for name in ("canvases", "sizes", "pair_mask")},
        "corners": tf.concat([image, corners[..., 1:]], -1),
        "pairs": tf.concat([ends, pairs[..., 2:]], -1),
    }
    return {
        **{name: tf.reshape(one, [-1, *one.shape[2:]]) for name, one in flat.items()},
        "seed": groups["seed"],
        "redraws": tf.reduce_sum(groups["redraws"]),
    }


def _lay_grids(sizes: tf.Tensor, origins: tf.Tensor, config: GridConfig) -> dict[str, tf.Tensor]:
    """Enumerates the cells of all grids: first grids of all images, then second ones, ...

    Args:
        sizes: int32 `[images, 2]`.
        origins: int32 `[images, grids, 2]`.
        config: the geometry.

    Returns:
        `corners` int32 `[cells, 3]`, `valid` bool `[cells]`, `place` and `extent` int32
        `[cells, 2]` (row and column in the grid; its numbers of rows and columns).
    """
    origins = tf.transpose(origins, [1, 0, 2])  # [grid, image, axis]
    extent = (sizes[None] + config.gap - origins) // config.pitch
    cell = tf.range(config.max_cells)
    columns = tf.maximum(extent[..., 1:], 1)
    place = tf.stack([cell // columns, cell % columns], -1)  # [grid, image, cell, axis]
    corner = origins[:, :, None] + config.pitch * place
    image = tf.broadcast_to(tf.range(tf.shape(sizes)[0])[:, None, None], tf.shape(corner[..., :1]))
    extent = tf.broadcast_to(extent[:, :, None], tf.shape(place))
    return {
        "corners": tf.reshape(tf.concat([image, corner], -1), [-1, 3]),
        "valid": tf.reshape(cell < tf.reduce_prod(extent, -1), [-1]),
        "place": tf.reshape(place, [-1, 2]),
        "extent": tf.reshape(extent, [-1, 2]),
    }


def _pair_up(
    cells: dict[str, tf.Tensor], slot: tf.Tensor, num_pairs: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives all ordered neighbours among the patches that are in the batch, padded, and a mask."""
    first = tf.range(tf.shape(slot)[0])
    candidates = []
    for row_step, column_step, position in _FORWARD:
        step = tf.constant([row_step, column_step])
        neighbour = cells["place"] + step
        inside = tf.reduce_all((neighbour >= 0) & (neighbour < cells["extent"]), -1)
        second = first + row_step * cells["extent"][:, 1] + column_step
        second_slot = tf.gather(slot, tf.where(inside, second, 0))
        both = inside & (slot >= 0) & (second_slot >= 0)
        label = tf.fill(tf.shape(slot), position)
        candidates.append(tf.stack([tf.where(both, slot, -1), second_slot, label], -1))
    forward = tf.reshape(tf.stack(candidates, 1), [-1, 3])
    forward = forward[forward[:, 0] >= 0][: num_pairs // 2]
    backward = tf.stack([forward[:, 1], forward[:, 0], 7 - forward[:, 2]], -1)
    pairs = tf.reshape(tf.stack([forward, backward], 1), [-1, 3])
    count = tf.shape(pairs)[0]
    padded = tf.pad(pairs, [[0, num_pairs - count], [0, 0]])
    return tf.ensure_shape(padded, [num_pairs, 3]), tf.range(num_pairs) < count


def _fill_up(
    corners: tf.Tensor, sizes: tf.Tensor, patch_size: int, total: int, key: tf.Tensor
) -> tf.Tensor:
    """Appends patches at random places of the same images until there are `total`."""
    image = tf.range(total) % tf.shape(sizes)[0]
    room = tf.cast(tf.gather(sizes, image) - patch_size + 1, tf.float32)
    place = tf.random.stateless_uniform([total, 2], tf.random.fold_in(key, 1)) * room
    extra = tf.concat([image[:, None], tf.cast(place, tf.int32)], -1)
    return tf.ensure_shape(tf.concat([corners, extra], 0)[:total], [total, 3])
