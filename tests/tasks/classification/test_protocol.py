"""Divisions: nobody is tested on what they learnt, and all are divided alike."""

import dataclasses

import numpy as np
import pytest

from keras_ctxattr.tasks.classification.protocol import PROTOCOLS, Draw, draw_photographs
from keras_ctxattr.tasks.classification.scoring import possible_shots

LABELS = np.repeat([0, 1, 2], [6, 9, 20])[np.random.default_rng(0).permutation(35)]
NAMES = ["ant", "bee", "cat"]


def divide(seed=0, **settings):
    protocol = dataclasses.replace(PROTOCOLS["folders"], num_draws=4, **settings)
    return draw_photographs(LABELS, NAMES, protocol, seed)


def test_draws_have_as_many_of_each_class_and_share_nothing():
    for draw in divide(train_per_class=5, test_per_class=3):
        assert np.bincount(LABELS[draw.train]).tolist() == [5, 5, 5]
        assert np.bincount(LABELS[draw.test]).tolist() == [1, 3, 3]  # as many as are left
        assert not set(draw.train) & set(draw.test)
        assert len(set(draw.train)) == 15 and len(set(draw.test)) == 7


def test_draws_differ_and_come_again_with_their_seed():
    settings = {"train_per_class": 5, "test_per_class": 3}
    first, again, other = divide(0, **settings), divide(0, **settings), divide(1, **settings)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.train, same.train)
        np.testing.assert_array_equal(one.test, same.test)
    assert len({tuple(draw.train) for draw in first + other}) == 8


def test_photographs_of_no_class_are_in_no_draw():
    labels = LABELS.copy()
    labels[:2] = -1
    protocol = dataclasses.replace(PROTOCOLS["folders"], train_per_class=3, test_per_class=None)
    for draw in draw_photographs(labels, NAMES, protocol, 0):
        assert sorted([*draw.train, *draw.test]) == list(range(2, 35))


def test_few_examples_are_among_more():
    draw = divide(train_per_class=5, test_per_class=3)[0]
    for shots in (1, 2, 4):
        rows = draw.first(LABELS, shots)
        assert np.bincount(LABELS[rows]).tolist() == [shots] * 3
        assert set(rows) <= set(draw.first(LABELS, shots + 1)) <= set(draw.train)


def test_shots_are_as_many_as_the_smallest_class_has():
    labels = np.array([0] * 5 + [1] * 9)
    draws = [Draw(np.array([0, 1, 2, 3, 5, 6, 7]), np.array([4, 8]))]
    assert possible_shots(labels, draws) == [1, 2]
    assert possible_shots(labels, [Draw(np.arange(4), np.array([4, 8]))]) == []


def test_what_teaches_must_not_test():
    with pytest.raises(
        ValueError, match=r"both teach and test. Received: 1 that do, such as row 3"
    ):
        Draw(np.array([1, 3]), np.array([2, 3]))


def test_a_class_with_too_few_photographs_is_named():
    with pytest.raises(
        ValueError, match=r"at least 7 photographs.* Received: ant with 6"
    ) as caught:
        divide(train_per_class=6, test_per_class=3)
    assert "more" not in str(caught.value).split("Received")[1]
    with pytest.raises(ValueError, match="ant with 6, and 1 more such classes"):
        divide(train_per_class=9, test_per_class=3)


def test_the_papers_protocols_are_as_printed():
    caltech, stl10 = PROTOCOLS["caltech101"], PROTOCOLS["stl10"]
    assert (caltech.train_per_class, caltech.test_per_class, caltech.num_draws) == (30, 50, 10)
    assert (caltech.side, caltech.pooling) == (150, "pyramid")
    assert (stl10.side, stl10.pooling, stl10.num_draws) == (96, "quadrants", 10)


def test_numbers_must_be_positive():
    with pytest.raises(ValueError, match="must be at least 1"):
        dataclasses.replace(PROTOCOLS["folders"], train_per_class=0)
