"""The patch-wise contour map: a pixel's code finds a contour patch, and patches are averaged."""

import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes import unpack_bits
from keras_ctxattr.tasks.contours.codebook import MAX_TABLE_BITS, CodeBook

FLOOR = 0.02
"""Chance of a contour below which a pixel's patch is left out, where patches are weighted."""

_CHUNK = 4096  # codes that are compared with the book at a time


class PatchTransfer(tf.Module):
    """Puts a contour map together from the patches that pixels' attributes name.

    Each pixel's chances of its attributes, cut at one half, are a code; the book's nearest code has
    a patch; the patch is laid around the pixel, as strong as its chance of being a contour. The map
    is the mean of the patches that cover a pixel, scaled so that a straight line all of whose
    pixels name it has 1.

    Call arguments:
        chances: float32 `[height, width, 1 + K]` in [0, 1], contour first.

    Returns:
        float32 `[height, width]` in [0, 1].

    Args:
        book: codes and patches.
        stride: pixels between those that lay their patches, both ways.
        weighted: whether patches weigh as the chance of a contour in their middle; if not, all
            weigh the same.
        reach: pixels from its middle to which a patch is used; None for all of it.

    Raises:
        ValueError: if an argument is impossible.

    Reference:
        Huang, Loy, Tang 2016, section 4.3 and figure 6; Dollar, Zitnick 2015, of the averaging.
    """

    def __init__(
        self,
        book: CodeBook,
        *,
        stride: int = 1,
        weighted: bool = True,
        reach: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        size = book.patches.shape[1]
        self.reach = size // 2 if reach is None else reach
        if stride < 1 or not 0 < self.reach <= size // 2:
            raise ValueError(
                f"`stride` must be at least 1 and `reach` 1 to {size // 2}. "
                f"Received: stride={stride}, reach={reach}"
            )
        self.stride, self.weighted = stride, weighted
        self.num_attributes = book.num_attributes
        inner = slice(size // 2 - self.reach, size // 2 + self.reach + 1)
        rows, down, right = np.nonzero(book.patches[:, inner, inner])
        self._points = tf.constant(np.stack([down, right], axis=1), tf.int32)
        self._starts = tf.constant(np.searchsorted(rows, np.arange(len(book) + 1)), tf.int32)
        if self.num_attributes <= MAX_TABLE_BITS:
            self._table = tf.constant(book.dense_table())
        else:
            self._signs = tf.constant(2.0 * unpack_bits(book.codes).T - 1.0, tf.float32)

    def __call__(self, chances: tf.Tensor) -> tf.Tensor:
        """Gives the map."""
        height, width = tf.unstack(tf.shape(chances)[:2])
        found = chances[:: self.stride, :: self.stride]
        weights = found[..., 0] if self.weighted else tf.ones_like(found[..., 0])
        places = tf.cast(tf.where(weights >= FLOOR), tf.int32)
        entries = self.look_up(tf.gather_nd(found[..., 1:], places) > 0.5)
        lengths = tf.gather(self._starts, entries + 1) - tf.gather(self._starts, entries)
        points = self._gather_points(entries, lengths)
        side = tf.stack([height, width]) + 2 * self.reach
        laid = tf.repeat(places * self.stride, lengths, axis=0) + points
        votes = tf.math.unsorted_segment_sum(
            tf.repeat(tf.gather_nd(weights, places), lengths),
            laid[:, 0] * side[1] + laid[:, 1],
            side[0] * side[1],
        )
        inside = slice(self.reach, -self.reach)
        total = tf.reshape(votes, side)[inside, inside]
        return tf.minimum(total * (self.stride**2 / (2 * self.reach + 1)), 1.0)

    def look_up(self, bits: tf.Tensor) -> tf.Tensor:
        """Gives the book's row of the nearest code, int32 `[n]`, of bool `[n, K]`."""
        if self.num_attributes <= MAX_TABLE_BITS:
            values = tf.constant(1 << np.arange(self.num_attributes)[::-1], tf.int32)
            return tf.gather(self._table, tf.reduce_sum(tf.cast(bits, tf.int32) * values, axis=1))

        signs = 2.0 * tf.cast(bits, tf.float32) - 1.0
        missing = -tf.shape(signs)[0] % _CHUNK
        chunks = tf.reshape(tf.pad(signs, [[0, missing], [0, 0]]), [-1, _CHUNK, signs.shape[1]])
        nearest = tf.map_fn(
            lambda one: tf.argmax(one @ self._signs, axis=1, output_type=tf.int32),
            chunks,
            fn_output_signature=tf.int32,
        )
        return tf.reshape(nearest, [-1])[: tf.shape(signs)[0]]

    def _gather_points(self, entries: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Gives the points of patches one after the other, int32 `[points, 2]`."""
        firsts = tf.repeat(tf.gather(self._starts, entries), lengths)
        before = tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
        return tf.gather(self._points, firsts + tf.range(tf.shape(firsts)[0]) - before)
