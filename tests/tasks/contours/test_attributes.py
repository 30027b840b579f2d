"""Attributes of contour patches as labels of a crop's places."""

import numpy as np
import pytest

from keras_ctxattr.attributes import AttributeHasher, unpack_bits
from keras_ctxattr.tasks.contours.attributes import ContourAttributes
from keras_ctxattr.tasks.contours.codebook import CodeBook
from tests.tasks.contours.drawings import draw_strokes, make_attributes


def test_every_place_has_its_patchs_bits_and_others_are_missing():
    attributes = make_attributes()
    patches = draw_strokes(6).reshape(2, 3, 45, 45)
    places = np.array([[4, -1, 0], [8, 3, -1]], np.int32)
    labels = attributes.label(patches, places, 3).numpy()
    assert labels.shape == (2, 3, 3, 8)
    expected = np.full((2, 9, 8), -1)
    for crop in range(2):
        for patch, place in zip(patches[crop], places[crop], strict=True):
            if place >= 0:
                three = np.repeat(patch[None, ..., None], 3, axis=-1)
                expected[crop, place] = attributes.hasher(three).numpy()[0] > 0
    np.testing.assert_array_equal(labels.reshape(2, 9, 8), expected)


def test_the_book_has_the_codes_that_labels_have():
    attributes = make_attributes()
    strokes = draw_strokes(60)
    labels = attributes.label(strokes[None], np.arange(60)[None], 8).numpy()
    given = labels.reshape(64, 8)[:60]
    known = {tuple(bits) for bits in unpack_bits(attributes.book.codes).astype(int).tolist()}
    assert {tuple(bits) for bits in given.tolist()} == known


def test_attributes_of_something_else_are_refused():
    attributes = make_attributes()
    with pytest.raises(ValueError, match=r"45 x 45.*a round from 1 on.*no network"):
        ContourAttributes(
            hasher=AttributeHasher(num_attributes=8, num_features=4), book=attributes.book
        )
    book = CodeBook.of(np.zeros((1, 2), np.uint8), np.ones((1, 45, 45), bool))
    with pytest.raises(ValueError, match=r"as many attributes.*8 and 16"):
        ContourAttributes(hasher=attributes.hasher, book=book)
