"""Orders that can be entered anywhere: no state, so that step s needs no step before it."""

import tensorflow as tf

# What `tf.random.experimental.index_shuffle` puts before the seed it is given.
_PREFIX = 498247692


def shuffled_rows(elements: tf.Tensor, num_rows: int, seed: int) -> tf.Tensor:
    """Gives the row that each element of an endless sequence is: a fresh permutation every pass.

    It is `tf.random.experimental.index_shuffle` with the seed (seed, pass); that function's own
    handling of several indices at once fails in TensorFlow 2.21, the op beneath does not.

    Args:
        elements: int64 `[k]`, places in the sequence, from 0.
        num_rows: length of a pass, at least 1.
        seed: from 0 to 2**31 - 1.

    Returns:
        int64 `[k]`, from 0 to `num_rows` - 1.
    """
    passes, indices = elements // num_rows, elements % num_rows
    prefix = tf.constant(_PREFIX, tf.int64)
    own_seed = tf.cast(tf.fill(tf.shape(passes), seed), tf.int64)
    seeds = tf.stack([tf.fill(tf.shape(passes), prefix), own_seed, passes % 2**31], -1)
    return tf.raw_ops.RandomIndexShuffle(
        index=indices,
        seed=tf.cast(seeds, tf.int32),
        max_index=tf.fill(tf.shape(indices), tf.constant(num_rows - 1, tf.int64)),
        rounds=4,
    )
