"""The patch-wise contour map: a pixel's code finds a contour patch, and patches are averaged."""

import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes import unpack_bits
from keras_ctxattr.tasks.contours.codebook import MAX_TABLE_BITS, CodeBook

FLOOR = 0.05
"""Chance of a contour below which a pixel's patch is left out, where patches are weighted."""

DECODINGS = ("likelihood", "hamming")
REACH, SHARPNESS, SPREAD = 4, 2.0, 2

_CHUNK = 1024  # pixels that are compared with the book at a time
_SMALLEST = 1e-3  # chance that a bit is taken to have at least


class PatchTransfer(tf.Module):
    """Puts a contour map together from the patches that pixels' attributes name.

    Each pixel's chances of its attributes name a code of the book, which has a patch; the patch is
    laid around the pixel, the stronger the likelier it is a contour. The map is the mean of the
    patches that cover a pixel, scaled so that a straight line all of whose pixels name it has
    x = 1; the power that chances were raised to is taken back, and x / (1 + x) is in [0, 1).

    The paper cuts chances at one half and takes the nearest code, and lays whole patches:
    `PatchTransfer(book, decoding="hamming", reach=22, sharpness=1, spread=1)`. Ours were chosen on
    validation images: bits are right three times of four, so that the nearest code is often
    another's; and what lies far from a patch's middle is guessed worse than what is near.

    Call arguments:
        chances: float32 `[height, width, 1 + K]` in [0, 1], contour first.

    Returns:
        float32 `[height, width]` in [0, 1).

    Args:
        book: codes and patches.
        stride: pixels between those that lay their patches, both ways.
        spread: what is laid is spread by a triangle that falls to 0 at this many pixels: lines of
            patches are a pixel thin and not as exact; 1 spreads nothing. At least the stride, or
            the map would show which pixels laid patches.
        weighted: whether patches weigh as the chance of a contour in their middle; if not, all
            weigh the same.
        sharpness: power of that chance.
        reach: pixels from its middle to which a patch is used.
        decoding: `"likelihood"`: the code that is likeliest, given the chances of its bits and how
            many training patches have it; or `"hamming"`: the one that differs in the fewest bits.

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
        spread: int = SPREAD,
        weighted: bool = True,
        sharpness: float = SHARPNESS,
        reach: int = REACH,
        decoding: str = DECODINGS[0],
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        size = book.patches.shape[1]
        if min(stride, spread) < 1 or not 0 < reach <= size // 2 or sharpness <= 0:
            raise ValueError(
                f"`stride` must be at least 1, `reach` 1 to {size // 2}, `sharpness` over 0 and "
                f"`spread` at least 1. Received: stride={stride}, reach={reach}, "
                f"sharpness={sharpness}, spread={spread}"
            )
        if decoding not in DECODINGS:
            raise ValueError(
                f"`decoding` must be one of {', '.join(DECODINGS)}. Received: {decoding}"
            )
        self.stride, self.weighted, self.reach = stride, weighted, reach
        self.sharpness, self.spread = float(sharpness), max(spread, stride)
        self.num_attributes = book.num_attributes
        inner = slice(size // 2 - self.reach, size // 2 + self.reach + 1)
        rows, down, right = np.nonzero(book.patches[:, inner, inner])
        self._points = tf.constant(np.stack([down, right], axis=1), tf.int32)
        self._starts = tf.constant(np.searchsorted(rows, np.arange(len(book) + 1)), tf.int32)
        self._table = None
        if decoding == "hamming" and self.num_attributes <= MAX_TABLE_BITS:
            self._table = tf.constant(book.dense_table())
            return
        self._signs = tf.constant(2.0 * unpack_bits(book.codes).T - 1.0, tf.float32)
        self._is_likelihood = decoding == "likelihood"
        frequencies = np.log(book.counts) if self._is_likelihood else np.zeros(len(book))
        self._frequencies = tf.constant(frequencies, tf.float32)

    def __call__(self, chances: tf.Tensor) -> tf.Tensor:
        """Gives the map."""
        height, width = tf.unstack(tf.shape(chances)[:2])
        found = chances[:: self.stride, :: self.stride]
        weights = found[..., 0] if self.weighted else tf.ones_like(found[..., 0])
        places = tf.cast(tf.where(weights >= FLOOR), tf.int32)
        entries = self.look_up(tf.gather_nd(found[..., 1:], places))
        lengths = tf.gather(self._starts, entries + 1) - tf.gather(self._starts, entries)
        points = self._gather_points(entries, lengths)
        side = tf.stack([height, width]) + 2 * self.reach
        laid = tf.repeat(places * self.stride, lengths, axis=0) + points
        votes = tf.math.unsorted_segment_sum(
            tf.repeat(tf.gather_nd(weights, places) ** self.sharpness, lengths),
            laid[:, 0] * side[1] + laid[:, 1],
            side[0] * side[1],
        )
        inside = slice(self.reach, -self.reach)
        lines = self._spread(tf.reshape(votes, side))[inside, inside]
        lines *= self.stride**2 / (2 * self.reach + 1)
        lines **= 1 / self.sharpness
        return lines / (1 + lines)

    def _spread(self, votes: tf.Tensor) -> tf.Tensor:
        """Spreads what pixels have laid to their neighbours."""
        if self.spread == 1:
            return votes
        triangle = np.bartlett(2 * self.spread + 1)[1:-1] / self.spread
        for kernel in (triangle[:, None], triangle[None]):
            filters = tf.constant(kernel[..., None, None], tf.float32)
            votes = tf.nn.conv2d(votes[None, ..., None], filters, 1, "SAME")[0, ..., 0]
        return votes

    def look_up(self, chances: tf.Tensor) -> tf.Tensor:
        """Gives the book's row for chances of attributes, int32 `[n]` of float32 `[n, K]`."""
        bits = chances > 0.5
        if self._table is not None:
            values = tf.constant(1 << np.arange(self.num_attributes)[::-1], tf.int32)
            return tf.gather(self._table, tf.reduce_sum(tf.cast(bits, tf.int32) * values, axis=1))

        if self._is_likelihood:  # the log of a bit's chances, to either side of their mean
            inside = tf.clip_by_value(chances, _SMALLEST, 1 - _SMALLEST)
            evidence = 0.5 * (tf.math.log(inside) - tf.math.log(1 - inside))
        else:
            evidence = tf.where(bits, 1.0, -1.0)
        missing = -tf.shape(evidence)[0] % _CHUNK
        padded = tf.pad(evidence, [[0, missing], [0, 0]])
        chunks = tf.reshape(padded, [-1, _CHUNK, self.num_attributes])
        best = tf.map_fn(
            lambda one: tf.argmax(
                one @ self._signs + self._frequencies, axis=1, output_type=tf.int32
            ),
            chunks,
            fn_output_signature=tf.int32,
        )
        return tf.reshape(best, [-1])[: tf.shape(evidence)[0]]

    def _gather_points(self, entries: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Gives the points of patches one after the other, int32 `[points, 2]`."""
        firsts = tf.repeat(tf.gather(self._starts, entries), lengths)
        before = tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
        return tf.gather(self._points, firsts + tf.range(tf.shape(firsts)[0]) - before)
