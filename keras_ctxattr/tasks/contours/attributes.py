"""Attributes of contour patches, learnt by `learn_attributes`, for contour networks."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes import AttributeHasher, load_hasher
from keras_ctxattr.attributes.learning.training import CODES
from keras_ctxattr.clustering import open_round
from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.crops import PATCH


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContourAttributes:
    """What a contour network learns of contours' kinds.

    Attributes:
        hasher: gives the attributes' scores of patches uint8 `[n, 45, 45, 3]`, 255 on contours.
        book: a patch for every code.
    """

    hasher: AttributeHasher
    book: CodeBook

    def __post_init__(self) -> None:
        """Checks that both are of the same attributes, and of contour patches."""
        shape = self.hasher.backbone and tuple(self.hasher.backbone.input_shape[1:3])
        if shape != (PATCH, PATCH):
            raise ValueError(
                f"Attributes of contours must be of a network that takes {PATCH} x {PATCH} "
                f"patches: learn them of a round from 1 on. Received: {shape or 'no network'}"
            )
        if self.hasher.num_attributes != self.book.num_attributes:
            raise ValueError(
                "`hasher` and `book` must have as many attributes. "
                f"Received: {self.hasher.num_attributes} and {self.book.num_attributes}"
            )

    @property
    def num_attributes(self) -> int:
        """K."""
        return self.book.num_attributes

    def label(self, patches: tf.Tensor, places: tf.Tensor, positions: int) -> tf.Tensor:
        """Gives the attributes of a batch's contours, in graph.

        Args:
            patches: uint8 `[crops, n, 45, 45]`, as `contour_batches` gives them.
            places: int32 `[crops, n]`.
            positions: places a side of a crop.

        Returns:
            int8 `[crops, positions, positions, K]`: 1, 0, or -1 where there is no patch.
        """
        scores = self.hasher(
            tf.repeat(tf.reshape(patches, [-1, PATCH, PATCH, 1]), 3, axis=-1), training=False
        )
        bits = tf.cast(scores > 0, tf.int8)
        crops = tf.shape(places)[0]
        total = crops * positions**2
        first = tf.range(crops)[:, None] * positions**2
        rows = tf.reshape(tf.where(places >= 0, first + places, total), [-1, 1])
        empty = tf.fill([total + 1, self.num_attributes], tf.constant(-1, tf.int8))
        found = tf.tensor_scatter_nd_update(empty, rows, bits)[:total]
        return tf.reshape(found, [crops, positions, positions, self.num_attributes])


def read_contour_attributes(folder: str | Path) -> ContourAttributes:
    """Reads the attributes of a run, and makes the book of its patches.

    Args:
        folder: of `learn_attributes`, of clusters of contour patches.

    Raises:
        RunError: if it is not finished or of another kind, or its clusters are not there.
        ValueError: if its attributes are not of contour patches.
    """
    hasher = load_hasher(folder)
    run = Run.read(folder)
    source = run.config["source"]
    if not {"clusters", "round"} <= set(source):
        raise ValueError(
            "The run must know the clusters that it was learnt from, as those of "
            f"`training.learn_attributes` do. Received: {folder}, learnt from {source or '?'}"
        )
    patches = open_round(source["clusters"], source["round"]).patches
    if patches.config.get("unit") != "contour":
        raise ValueError(
            "Attributes must be of contour patches (`--unit contour`). "
            f"Received: {folder}, of {patches.config.get('unit')} patches"
        )
    book = CodeBook.of(np.load(run.path / CODES), patches.pixels)
    return ContourAttributes(hasher=hasher, book=book)
