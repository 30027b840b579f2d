"""Orders without state: each pass is a fresh permutation, and can be entered anywhere."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.data.shuffling import shuffled_rows


def rows_of(first, last, num_rows, seed=11):
    return shuffled_rows(tf.range(first, last, dtype=tf.int64), num_rows, seed).numpy()


@pytest.mark.parametrize("num_rows", [1, 2, 7, 100])
def test_every_pass_takes_every_row_once(num_rows):
    passes = rows_of(0, 5 * num_rows, num_rows).reshape(5, num_rows)
    assert passes.dtype == np.int64
    for one in passes:
        np.testing.assert_array_equal(np.sort(one), np.arange(num_rows))


def test_passes_and_seeds_give_different_orders_that_have_nothing_in_common():
    num_rows = 400
    orders = [
        *rows_of(0, 4 * num_rows, num_rows).reshape(4, -1),
        rows_of(0, num_rows, num_rows, seed=0),
        rows_of(0, num_rows, num_rows, seed=12),
        rows_of(0, num_rows, num_rows, seed=2**31 - 1),
        np.arange(num_rows),
    ]
    # Two random permutations have one row at the same place on average; eight are unheard of.
    for number, one in enumerate(orders):
        for other in orders[:number]:
            assert np.sum(one == other) < 8
            assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / np.sqrt(num_rows)


def test_the_same_seed_gives_the_same_order():
    np.testing.assert_array_equal(rows_of(0, 50, 9), rows_of(0, 50, 9))


@pytest.mark.parametrize(("first", "last"), [(0, 1), (3, 3), (5, 29), (6, 7), (7, 14), (33, 70)])
def test_any_slice_is_that_of_the_whole_sequence(first, last):
    np.testing.assert_array_equal(rows_of(first, last, 7), rows_of(0, 70, 7)[first:last])


def test_elements_are_independent_of_those_beside_them():
    whole = rows_of(0, 70, 7)
    places = np.array([69, 3, 3, 0, 41])
    found = shuffled_rows(tf.constant(places, tf.int64), 7, 11)
    np.testing.assert_array_equal(found, whole[places])


def test_every_row_comes_to_every_place_about_equally_often():
    passes = rows_of(0, 3000 * 5, 5).reshape(-1, 5)
    counts = np.array([np.bincount(places, minlength=5) for places in passes.T])
    # About: with seeds that count up, index_shuffle fails a chi-square test (with any rounds).
    assert counts.min() > 400 and counts.max() < 800


def test_a_pipeline_gives_the_same_rows():
    batches = tf.data.Dataset.range(12).map(
        lambda step: shuffled_rows(step * 4 + tf.range(4, dtype=tf.int64), 7, 11),
        num_parallel_calls=2,
    )
    found = np.concatenate(list(batches.as_numpy_iterator()))
    np.testing.assert_array_equal(found, rows_of(0, 48, 7))


def test_sequences_never_end():
    far = 7 * 10**9
    np.testing.assert_array_equal(np.sort(rows_of(far, far + 7, 7)), np.arange(7))


def test_rows_are_those_of_index_shuffle():
    elements = tf.range(3, 40, dtype=tf.int64)
    expected = [
        int(
            tf.random.experimental.index_shuffle(
                element % 7,
                tf.stack([11, tf.cast(element // 7, tf.int32)]),
                tf.constant(6, tf.int64),
            )
        )
        for element in elements
    ]
    assert shuffled_rows(elements, num_rows=7, seed=11).numpy().tolist() == expected
