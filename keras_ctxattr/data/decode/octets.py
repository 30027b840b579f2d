"""Numbers read from encoded bytes, in graph."""

from collections.abc import Callable

import tensorflow as tf

MAX_WALK_STEPS = 100_000  # segments or chunks, after which the search in a file ends

# A function that stays one node of the graph: a branch not taken costs nothing, where an inlined
# one costs a microsecond for each of its hundreds of nodes.
one_node = tf.function(
    input_signature=[tf.TensorSpec([], tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)


def read_bytes(encoded: tf.Tensor, start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Gives `count` bytes from `start` on as int64 numbers, zeros behind the end of the string."""
    start = tf.cast(start, tf.int64)
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    start = tf.clip_by_value(start, 0, length)
    piece = tf.strings.substr(encoded, start, tf.cast(count, tf.int64))
    values = tf.cast(tf.io.decode_raw(piece, tf.uint8), tf.int64)
    values = tf.pad(values, [[0, tf.cast(count, tf.int32) - tf.size(values)]])
    if isinstance(count, int):
        values.set_shape([count])
    return values


def little(values: tf.Tensor) -> tf.Tensor:
    """Gives the number that bytes `[..., n]` stand for, lowest byte first."""
    return tf.reduce_sum(values * [256**power for power in range(values.shape[-1])], axis=-1)


def big(values: tf.Tensor) -> tf.Tensor:
    """Gives the number that bytes `[..., n]` stand for, highest byte first."""
    return little(values[..., ::-1])


def choose(condition: tf.Tensor, chosen: tf.Tensor | int, other: tf.Tensor | int) -> tf.Tensor:
    """Gives one of two int64 values."""
    return tf.where(condition, tf.cast(chosen, tf.int64), tf.cast(other, tf.int64))


def equals(values: tf.Tensor, start: int, expected: bytes) -> tf.Tensor:
    """Tells whether the values from `start` on are these bytes."""
    piece = values[start : start + len(expected)]
    return tf.reduce_all(piece == tf.constant(list(expected), tf.int64))


def bit(value: tf.Tensor, mask: int) -> tf.Tensor:
    """Tells whether a bit of a byte is set."""
    return tf.bitwise.bitwise_and(value, tf.constant(mask, tf.int64)) != 0


def is_one_of(value: tf.Tensor, choices: list[int]) -> tf.Tensor:
    """Tells whether a number is among some."""
    return tf.reduce_any(value == tf.constant(choices, value.dtype))


def is_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Tells whether these are the bytes of a WebP file."""
    head = read_bytes(encoded, 0, 12)
    return equals(head, 0, b"RIFF") & equals(head, 8, b"WEBP")


def walk(
    encoded: tf.Tensor,
    begin: tf.Tensor,
    step: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
) -> tf.Tensor:
    """Goes from segment to segment until `step` gives something other than -1 or the bytes end.

    Args:
        encoded: String scalar.
        begin: Int64 scalar, where the first segment starts.
        step: From a position to (the next position, what was found: -1 nothing yet, -2 nothing and
        stop).

    Returns:
        Int64 scalar, the position found, or a negative number.
    """
    end = tf.cast(tf.strings.length(encoded), tf.int64)
    _, found = tf.while_loop(
        lambda position, found: (found == -1) & (position < end),
        lambda position, _: step(position),
        [begin, tf.constant(-1, tf.int64)],
        maximum_iterations=MAX_WALK_STEPS,
    )
    return found
