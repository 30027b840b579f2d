"""All images of an index compared: tiles agree with the whole table, whitening with its law."""

import numpy as np
import pytest

from keras_ctxattr.search import likeness


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(likeness, "_ROWS", 7)
    monkeypatch.setattr(likeness, "_COLUMNS", 11)
    monkeypatch.setattr(likeness, "_CHUNK", 13)


def unit_rows(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pairs_of_tiles_are_those_of_the_whole_table(small_tiles):
    vectors = unit_rows(40)
    pairs, cosines = likeness.find_pairs(vectors, 0.5)
    table = np.triu(vectors @ vectors.T, 1)
    expected = np.argwhere(table >= 0.5)
    assert {tuple(pair) for pair in pairs.tolist()} == {tuple(pair) for pair in expected.tolist()}
    assert len(pairs) == len(expected) > 10
    np.testing.assert_allclose(cosines, table[pairs[:, 0], pairs[:, 1]], rtol=1e-5)


def test_nearest_others_are_those_of_the_whole_table(small_tiles):
    vectors = unit_rows(40)
    rows, cosines = likeness.nearest_others(vectors, 5)
    table = vectors @ vectors.T - 9 * np.eye(40)
    expected = np.sort(table, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(cosines, expected, rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(table, rows, axis=1), expected, rtol=1e-5)


def test_whitening_makes_what_all_share_count_for_nothing(small_tiles):
    generator = np.random.default_rng(0)
    scales = np.array([5, 1, 1, 0.5, 0.5, 0.5])
    vectors = (20 + generator.normal(size=(2000, 6)) * scales).astype(np.float32)
    vectors[1] = vectors[0] + 0.02
    plain = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.median(plain @ plain.T) > 0.95
    white = likeness.whiten(vectors)
    table = white @ white.T
    assert table[0, 1] > 0.98
    assert abs(np.median(table[2:, 2:])) < 0.05
    covariance = np.cov(white.T)
    assert covariance.max() < 3 * np.diag(covariance).min()


def test_too_few_to_whiten_stay_as_they_are():
    vectors = unit_rows(5)
    np.testing.assert_allclose(likeness.whiten(3 * vectors), vectors, rtol=1e-6)


def test_progress_ends_with_all_rows(small_tiles):
    told = []
    likeness.find_pairs(unit_rows(20), 0.9, lambda *counts: told.append(counts))
    assert told == [(7, 20), (14, 20), (20, 20)]
