"""The objective of a block of SVMs and its gradient, on the device.

For cluster k with weights w (the bias its last row), positives p and negatives n, all with a
constant 1 appended:

    f_k(w) = 1/2 |w|^2 + C sum_p max(0, 1 - w p)^2 + C sum_n max(0, 1 + w n)^2

One matrix product scores a tile of negatives against all clusters of the block.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """Some of the negatives.

    Attributes:
        rows: float32 `[rows, num_features]`.
        numbers: int64 `[rows]`: which of all negatives they are.
    """

    rows: tf.Tensor
    numbers: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """The clusters that are solved at the same time.

    Attributes:
        ids: int64 `[clusters]`: their numbers.
        positives: float32 `[clusters, members, num_features]`, padded.
        valid: float32 `[clusters, members]`: 1 where there is a member.
        C: float32 scalar, weight of a sample's loss.
        excluded: int64 `[pairs, 2]`, (number of a negative, number of a cluster for which it is no
            negative), ascending by the first; None if there are no such pairs.
    """

    ids: np.ndarray
    positives: tf.Tensor
    valid: tf.Tensor
    C: tf.Tensor
    excluded: np.ndarray | None = None

    def select(self, columns: np.ndarray) -> "Block":
        """Gives the block of some of its clusters, by their places in it."""
        return dataclasses.replace(
            self,
            ids=self.ids[columns],
            positives=tf.gather(self.positives, columns),
            valid=tf.gather(self.valid, columns),
        )

    def is_excluded(self, tile: Tile) -> np.ndarray | None:
        """Gives bool `[rows, clusters]`: where a row is no negative; None if nowhere."""
        if self.excluded is None:
            return None
        numbers, ids = self.excluded.T
        mask = np.zeros((len(tile.numbers), len(self.ids)), bool)
        columns = {number: place for place, number in enumerate(self.ids.tolist())}
        order = np.argsort(tile.numbers, kind="stable")
        ascending = tile.numbers[order]
        first, last = np.searchsorted(numbers, [ascending[0], ascending[-1] + 1])
        places = np.searchsorted(ascending, numbers[first:last])
        for place, number, cluster in zip(
            places.tolist(), numbers[first:last].tolist(), ids[first:last].tolist(), strict=True
        ):
            if cluster in columns and ascending[place] == number:
                mask[order[place], columns[cluster]] = True
        return mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Margins:
    """How far each sample is on the wrong side of its margin, a linear function of the weights.

    Attributes:
        negatives: for each tile, float32 `[rows, clusters]`: 1 + w n; -1 where excluded.
        positives: float32 `[clusters, members]`: 1 - w p; -1 where padded.
    """

    negatives: list[tf.Tensor]
    positives: tf.Tensor

    def select(self, columns: np.ndarray) -> "Margins":
        """Gives the margins of some clusters only."""
        return Margins(
            negatives=[tf.gather(values, columns, axis=1) for values in self.negatives],
            positives=tf.gather(self.positives, columns),
        )

    def moved(self, length: tf.Tensor, slopes: "Margins") -> "Margins":
        """Gives the margins after a step of some length a cluster along a direction."""
        return Margins(
            negatives=[
                _moved(values, length, slope)
                for values, slope in zip(self.negatives, slopes.negatives, strict=True)
            ],
            positives=_moved(self.positives, length[:, None], slopes.positives),
        )


def margins_at(block: Block, tiles: Iterable[Tile], weights: tf.Tensor) -> Margins:
    """Gives the margins at some weights, float32 `[num_features + 1, clusters]`."""
    return Margins(
        negatives=[score_margins(block, tile, weights) for tile in tiles],
        positives=tf.where(block.valid > 0, 1.0 - _positive_scores(block, weights), -1.0),
    )


def slopes_along(block: Block, tiles: Iterable[Tile], directions: tf.Tensor) -> Margins:
    """Gives how the margins change along a direction a cluster."""
    return Margins(
        negatives=[_slopes(block, tile, directions) for tile in tiles],
        positives=-block.valid * _positive_scores(block, directions),
    )


def score_margins(block: Block, tile: Tile, weights: tf.Tensor) -> tf.Tensor:
    """Gives 1 + w n, float32 `[rows, clusters]`, -1 where the row is excluded for the cluster."""
    margins = _scores(tile.rows, weights) + 1.0
    excluded = block.is_excluded(tile)
    return margins if excluded is None else tf.where(excluded, -1.0, margins)


def evaluate(
    block: Block, tiles: Iterable[Tile], weights: tf.Tensor, margins: Margins
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives (objective `[clusters]`, gradient like `weights`, number of active negatives)."""
    objective, gradient = _positive_terms(block.positives, margins.positives, weights, block.C)
    num_active = tf.zeros_like(objective)
    for tile, values in zip(tiles, margins.negatives, strict=True):
        squares, push, count = _negative_terms(tile.rows, values, block.C)
        objective, gradient, num_active = objective + squares, gradient + push, num_active + count
    return objective, gradient, num_active


def line_derivatives(
    block: Block,
    weights: tf.Tensor,
    directions: tf.Tensor,
    margins: Margins,
    slopes: Margins,
    length: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives each cluster's first and second derivative along its direction, float32 `[clusters]`.

    Args:
        block: the clusters.
        weights: where the line starts, float32 `[num_features + 1, clusters]`.
        directions: float32, as `weights`.
        margins: at `weights`.
        slopes: along `directions`.
        length: how far along, float32 `[clusters]`.
    """
    first = tf.reduce_sum((weights + length * directions) * directions, axis=0)
    second = tf.reduce_sum(directions**2, axis=0)
    parts = [
        _line_terms(values, slope, length)
        for values, slope in zip(margins.negatives, slopes.negatives, strict=True)
    ]
    parts.append(
        _line_terms(tf.transpose(margins.positives), tf.transpose(slopes.positives), length)
    )
    for slope, curve in parts:
        first, second = first + 2.0 * block.C * slope, second + 2.0 * block.C * curve
    return first, second


def _positive_scores(block: Block, weights: tf.Tensor) -> tf.Tensor:
    return tf.einsum("kmd,dk->km", block.positives, weights[:-1]) + weights[-1][:, None]


def _slopes(block: Block, tile: Tile, directions: tf.Tensor) -> tf.Tensor:
    slopes = _scores(tile.rows, directions)
    excluded = block.is_excluded(tile)
    return slopes if excluded is None else tf.where(excluded, 0.0, slopes)


# With shapes left open a function is traced once. Traced for the shapes that came first, it would
# round otherwise than in a process that met others first: one that goes on after an interruption.
_ANY = tf.TensorSpec(None, tf.float32)
NUMBER = tf.TensorSpec((), tf.float32)
_VECTOR = tf.TensorSpec((None,), tf.float32)
MATRIX = tf.TensorSpec((None, None), tf.float32)
_BATCH = tf.TensorSpec((None, None, None), tf.float32)


@tf.function(input_signature=[MATRIX, MATRIX], autograph=False)
def _scores(rows: Any, weights: Any) -> Any:
    return tf.matmul(rows, weights[:-1]) + weights[-1]


@tf.function(input_signature=[MATRIX, _ANY, MATRIX], autograph=False)
def _moved(values: Any, length: Any, slopes: Any) -> Any:
    return values + length * slopes


@tf.function(input_signature=[_BATCH, MATRIX, MATRIX, NUMBER], autograph=False)
def _positive_terms(positives: Any, margins: Any, weights: Any, C: Any) -> Any:
    losses = tf.nn.relu(margins)
    objective = 0.5 * tf.reduce_sum(weights**2, axis=0) + C * tf.reduce_sum(losses**2, axis=1)
    pull = tf.concat(
        [tf.einsum("kmd,km->dk", positives, losses), tf.reduce_sum(losses, axis=1)[None]], axis=0
    )
    return objective, weights - 2.0 * C * pull


@tf.function(input_signature=[MATRIX, MATRIX, NUMBER], autograph=False)
def _negative_terms(rows: Any, margins: Any, C: Any) -> Any:
    losses = tf.nn.relu(margins)
    squares = C * tf.reduce_sum(losses**2, axis=0)
    push = tf.concat(
        [tf.matmul(rows, losses, transpose_a=True), tf.reduce_sum(losses, axis=0)[None]], axis=0
    )
    count = tf.reduce_sum(tf.cast(margins > 0, tf.float32), axis=0)
    return squares, 2.0 * C * push, count


@tf.function(input_signature=[MATRIX, MATRIX, _VECTOR], autograph=False)
def _line_terms(margins: Any, slopes: Any, length: Any) -> Any:
    losses = tf.nn.relu(margins + length * slopes)
    first = tf.reduce_sum(losses * slopes, axis=0)
    second = tf.reduce_sum(tf.where(losses > 0, slopes, 0.0) ** 2, axis=0)
    return first, second
