"""Packed codes: numpy's order, and Hamming distances of packed and unpacked bits alike."""

import numpy as np
import pytest

from keras_ctxattr.attributes.codes import encode_scores, hamming, pack_bits, unpack_bits


def test_first_attribute_is_the_highest_bit():
    bits = np.zeros((1, 16), bool)
    bits[0, 0] = bits[0, 9] = True
    np.testing.assert_array_equal(pack_bits(bits), [[0b10000000, 0b01000000]])


def test_packing_and_back():
    bits = np.random.default_rng(0).random((50, 24)) > 0.5
    np.testing.assert_array_equal(unpack_bits(pack_bits(bits)), bits)
    np.testing.assert_array_equal(pack_bits(bits.astype(int)), np.packbits(bits, axis=1))


def test_a_bit_is_set_where_its_score_is_above_0():
    scores = np.array([[1e-9, 0.0, -0.0, -1e-9, 5, -5, np.float32(1e-30), -1]])
    np.testing.assert_array_equal(
        unpack_bits(encode_scores(scores)), [[True, False, False, False, True, False, True, False]]
    )


def test_hamming_counts_the_bits_that_differ():
    generator = np.random.default_rng(1)
    bits, others = generator.random((9, 40)) > 0.5, generator.random((13, 40)) > 0.5
    found = hamming(pack_bits(bits), pack_bits(others))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, (bits[:, None] != others[None]).sum(axis=2))
    np.testing.assert_array_equal(np.diag(hamming(pack_bits(bits), pack_bits(bits))), 0)


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (pack_bits, np.zeros((3, 12), bool), "multiple of 8"),
        (pack_bits, np.zeros(8, bool), "num_attributes"),
        (pack_bits, np.full((2, 8), 2), "0 and 1"),
        (encode_scores, np.full((2, 8), np.nan), "finite"),
        (unpack_bits, np.zeros((2, 8), np.int64), "uint8"),
    ],
)
def test_bad_codes_are_one_line(function, given, words):
    with pytest.raises(ValueError, match=words) as caught:
        function(given)
    assert "Received" in str(caught.value) and "\n" not in str(caught.value)


def test_codes_of_other_lengths_are_not_compared():
    with pytest.raises(ValueError, match="1 and 2"):
        hamming(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8))
