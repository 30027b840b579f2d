"""Patch-wise maps: against one patch after the other, and laws."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate1d

from keras_ctxattr.attributes import hamming, pack_bits, unpack_bits
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.transfer import DECODINGS, FLOOR, PatchTransfer


def draw_book(bits, count=20, size=9, seed=0):
    generator = np.random.default_rng(seed)
    codes = pack_bits(generator.integers(0, 2, (count, bits)))
    return CodeBook.of(codes, generator.random((count, size, size)) < 0.15)


def draw_chances(bits, shape=(21, 26), seed=1):
    return np.random.default_rng(seed).random((*shape, 1 + bits)).astype(np.float32)


def name_row(chances, book, decoding):
    """Gives the book's row for the chances of one pixel's attributes."""
    if decoding == "hamming":
        return int(hamming(pack_bits(chances[None] > 0.5), book.codes)[0].argmin())
    inside = np.clip(chances.astype(float), 1e-3, 1 - 1e-3)
    bits = unpack_bits(book.codes)
    likelihoods = np.where(bits, inside, 1 - inside).prod(axis=1) * book.counts
    return int(likelihoods.argmax())


def lay_one_by_one(chances, book, decoding, stride, spread, weighted, sharpness, reach):
    """Lays every pixel's patch in turn."""
    height, width = chances.shape[:2]
    middle = book.patches.shape[1] // 2
    total = np.zeros((height + 2 * reach, width + 2 * reach))
    for row in range(0, height, stride):
        for column in range(0, width, stride):
            weight = chances[row, column, 0] if weighted else 1.0
            if weight < FLOOR:
                continue
            patch = book.patches[name_row(chances[row, column, 1:], book, decoding)]
            inner = slice(middle - reach, middle + reach + 1)
            window = (slice(row, row + 2 * reach + 1), slice(column, column + 2 * reach + 1))
            total[window] += weight**sharpness * patch[inner, inner]
    spread = max(spread, stride)
    triangle = np.convolve(np.ones(spread), np.ones(spread)) / spread**2
    for axis in (0, 1):
        total = correlate1d(total, triangle, axis, mode="constant")
    lines = total[reach : reach + height, reach : reach + width] * stride**2 / (2 * reach + 1)
    lines **= 1 / sharpness
    return lines / (1 + lines)


@pytest.mark.parametrize("bits", [8, 24])
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize(
    ("stride", "spread", "weighted", "sharpness", "reach"),
    [(1, 1, True, 1, 4), (2, 1, True, 2, 4), (1, 2, False, 1, 4), (3, 4, True, 0.5, 2)],
)
def test_maps_are_those_of_one_patch_after_the_other(
    bits, decoding, stride, spread, weighted, sharpness, reach
):
    book, chances = draw_book(bits), draw_chances(bits)
    if bits == 8:  # ties between codes may be broken either way: all codes are known
        book = CodeBook.of(
            np.arange(256, dtype=np.uint8)[:, None],
            np.random.default_rng(2).random((256, 9, 9)) < 0.15,
        )
    settings = {"stride": stride, "spread": spread, "weighted": weighted}
    settings |= {"sharpness": sharpness, "reach": reach}
    found = PatchTransfer(book, decoding=decoding, **settings)(tf.constant(chances)).numpy()
    expected = lay_one_by_one(chances, book, decoding, **settings)
    assert found.shape == (21, 26)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("stride", "spread"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_a_straight_line_that_all_its_pixels_name_is_one(stride, spread):
    line = np.zeros((1, 9, 9), bool)
    line[0, :, 4] = True
    book = CodeBook.of(np.zeros((1, 1), np.uint8), line)
    transfer = PatchTransfer(book, stride=stride, spread=spread, sharpness=1)
    chances = np.zeros((40, 30, 9), np.float32)
    chances[:, 12, 0] = 1.0
    found = transfer(tf.constant(chances)).numpy()
    lines = found[6:-6] / (1 - found[6:-6])
    # With a stride of 2 the one column stands for two. What is spread is lost by none.
    width = max(spread, stride)
    assert lines[:, 12].mean() == pytest.approx(stride / width, rel=1e-5)
    assert np.ptp(lines[:, 12]) < (1e-5 if stride == 1 else 0.02)
    np.testing.assert_allclose(lines.sum(axis=1).mean(), stride, rtol=1e-5)
    assert found[:, 13 - width : 12 + width].sum() == pytest.approx(found.sum())


def test_nothing_comes_of_nothing():
    book = draw_book(8)
    assert PatchTransfer(book)(tf.zeros([10, 12, 9])).numpy().max() == 0


@pytest.mark.parametrize("bits", [16, 32])
def test_the_nearest_code_is_looked_up(bits):
    book = draw_book(bits, 200)
    bits_given = np.random.default_rng(3).integers(0, 2, (50, bits)).astype(bool)
    transfer = PatchTransfer(book, decoding="hamming")
    rows = transfer.look_up(tf.constant(bits_given, tf.float32)).numpy()
    distances = hamming(pack_bits(bits_given), book.codes)
    np.testing.assert_array_equal(distances[np.arange(50), rows], distances.min(axis=1))


@pytest.mark.parametrize(
    "settings", [{"stride": 0}, {"reach": 0}, {"reach": 5}, {"sharpness": 0}, {"spread": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"`stride` must be at least 1, `reach` 1 to 4"):
        PatchTransfer(draw_book(8), **settings)


def test_an_unknown_decoding_is_refused():
    with pytest.raises(ValueError, match="`decoding` must be one of likelihood, hamming"):
        PatchTransfer(draw_book(8), decoding="soft")
