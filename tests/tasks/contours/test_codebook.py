"""Codes and the patches that stand for them."""

import cv2
import numpy as np
import pytest

from keras_ctxattr.attributes import hamming, pack_bits
from keras_ctxattr.tasks.contours.codebook import CodeBook


def draw_lines(columns, size=15):
    patches = np.zeros((len(columns), size, size), bool)
    patches[np.arange(len(columns)), :, columns] = True
    return patches


def draw_book(bits, count, seed=0):
    generator = np.random.default_rng(seed)
    codes = pack_bits(generator.integers(0, 2, (count, bits)))
    return CodeBook.of(codes, draw_lines(generator.integers(0, 15, count)))


def test_a_codes_patch_is_the_one_in_the_middle():
    codes = np.array([[7], [7], [7], [200], [200]], np.uint8)
    book = CodeBook.of(codes, draw_lines([2, 4, 6, 9, 9]))
    assert book.codes.tolist() == [[7], [200]]
    assert book.counts.tolist() == [3, 2]
    np.testing.assert_array_equal(book.patches, draw_lines([4, 9]))


@pytest.mark.parametrize("seed", range(3))
def test_medoids_are_those_of_all_distances(seed):
    generator = np.random.default_rng(seed)
    patches = generator.random((12, 9, 9)) < 0.2
    book = CodeBook.of(np.zeros((12, 1), np.uint8), patches)
    blurred = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), 2.0)[::3, ::3] for one in patches]
    sums = [sum(((one - other) ** 2).sum() for other in blurred) for one in blurred]
    np.testing.assert_array_equal(book.patches[0], patches[int(np.argmin(sums))])


def test_patches_may_have_channels_and_any_value_on_contours():
    lines = draw_lines([2, 7])
    codes = np.array([[1], [2]], np.uint8)
    book = CodeBook.of(codes, np.repeat(lines[..., None] * np.uint8(255), 3, axis=-1))
    np.testing.assert_array_equal(book.patches, lines)


@pytest.mark.parametrize(("bits", "count"), [(8, 5), (8, 200), (16, 300)])
def test_the_table_names_a_nearest_code_for_every_code(bits, count):
    book = draw_book(bits, count)
    table = book.dense_table()
    assert table.shape == (2**bits,)
    generator = np.random.default_rng(1)
    for number in generator.integers(0, 2**bits, 50).tolist():
        code = np.frombuffer(number.to_bytes(bits // 8, "big"), np.uint8)[None]
        distances = hamming(code, book.codes)[0]
        assert distances[table[number]] == distances.min()


def test_known_codes_are_their_own_nearest():
    book = draw_book(16, 100)
    numbers = book.codes.astype(int) @ [256, 1]
    np.testing.assert_array_equal(book.dense_table()[numbers], np.arange(len(book)))


def test_a_book_is_the_same_when_read_again(tmp_path):
    book = draw_book(16, 40)
    book.save(tmp_path / "patches.npz")
    again = CodeBook.load(tmp_path / "patches.npz")
    for name in ("codes", "patches", "counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(book, name))


def test_what_is_no_book_is_refused():
    with pytest.raises(ValueError, match=r"a code for every patch.*2 codes and 3 patches"):
        CodeBook.of(np.zeros((2, 1), np.uint8), draw_lines([1, 2, 3]))
    with pytest.raises(ValueError, match=r"at most 16 attributes.*24"):
        draw_book(24, 10).dense_table()
