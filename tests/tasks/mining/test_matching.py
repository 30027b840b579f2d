"""Best matches: against plain loops, and both searches against each other."""

import dataclasses

import faiss
import numpy as np
import pytest

from keras_ctxattr.tasks.mining import matching
from keras_ctxattr.tasks.mining.matching import (
    NO_PATCH,
    build_index,
    match_by_index,
    match_exactly,
)
from tests.tasks.mining.making import random_features


def make_queries(features, count=5, seed=3):
    generator = np.random.default_rng(seed)
    owners = generator.integers(0, len(features.manifest), count)
    rows = features.starts[owners][:, None] + generator.integers(0, 15, (count, 4))
    return features.vectors[rows].astype(np.float32), owners


def plain_matches(features, queries, owners, depth):
    """Compares every patch with every patch, one by one."""
    vectors = np.asarray(features.vectors, np.float32)
    found = []
    for query, owner in zip(queries, owners, strict=True):
        rows = []
        for image in range(len(features.manifest)):
            if image == owner:
                continue
            low, high = features.starts[image], features.starts[image + 1]
            best = [max(range(low, high), key=lambda row: vectors[row] @ one) for one in query]
            total = sum(float(vectors[row] @ one) for row, one in zip(best, query, strict=True))
            rows.append((-total, image, best))
        found.append(sorted(rows)[:depth])
    return found


@pytest.mark.parametrize("batch", [2, 64])
def test_the_best_of_every_photograph_is_found(batch, monkeypatch):
    monkeypatch.setattr(matching, "_BATCH", batch)
    features = random_features()
    queries, owners = make_queries(features)
    told = []
    found = match_exactly(
        features, queries, owners, 4, progress=lambda *counts: told.append(counts)
    )
    expected = plain_matches(features, queries, owners, 4)
    assert found.images.tolist() == [[image for _, image, _ in one] for one in expected]
    assert found.patches.tolist() == [[best for _, _, best in one] for one in expected]
    np.testing.assert_allclose(
        found.similarities, [[-total for total, _, _ in one] for one in expected], atol=1e-5
    )
    assert told[-1] == (7, 7)


def test_past_the_end_there_is_no_photograph():
    features = random_features(3)
    queries, owners = make_queries(features)
    found = match_exactly(features, queries, owners, 100)
    assert found.images.shape == (5, 2)  # not its own
    assert (found.images >= 0).all()
    assert not (found.images == owners[:, None]).any()
    index = faiss.IndexFlatIP(features.num_dims)
    index.add(np.asarray(features.vectors, np.float32))
    # Nothing but its own photograph is known of the first: there is no other.
    few = match_by_index(features, index, queries, owners, 100, num_nearest=1)
    unknown = few.images == -1
    assert unknown.any() and (few.patches[unknown] == NO_PATCH).all()


def test_looking_up_every_patch_of_an_exact_index_is_the_exact_search():
    features = random_features()
    queries, owners = make_queries(features)
    index = faiss.IndexFlatIP(features.num_dims)
    index.add(np.asarray(features.vectors, np.float32))
    exact = match_exactly(features, queries, owners, 4)
    found = match_by_index(features, index, queries, owners, 4, num_nearest=len(features.vectors))
    np.testing.assert_array_equal(found.images, exact.images)
    np.testing.assert_array_equal(found.patches, exact.patches)
    np.testing.assert_allclose(found.similarities, exact.similarities, atol=1e-5)


def test_photographs_that_a_patch_did_not_find_count_as_its_last():
    features = random_features()
    queries, _ = make_queries(features, 1)
    index = faiss.IndexFlatIP(features.num_dims)
    vectors = np.asarray(features.vectors, np.float32)
    index.add(vectors)
    found = match_by_index(features, index, queries, np.array([-1]), 7, num_nearest=6)
    products = queries[0] @ vectors.T  # [corner, patch]
    nearest = np.argsort(-products, axis=1)[:, :6]
    for place, image in enumerate(found.images[0]):
        if image < 0:
            continue
        total = 0.0
        for corner in range(4):
            there = [row for row in nearest[corner] if row // 15 == image]
            row = there[0] if there else nearest[corner][-1]
            assert found.patches[0, place, corner] == (there[0] if there else NO_PATCH)
            total += products[corner, row]
        assert found.similarities[0, place] == pytest.approx(total, abs=1e-5)
    assert (found.patches == NO_PATCH).any() and (found.images >= 0).any()


@pytest.fixture(scope="module")
def copies():
    """Gives patches of which the second half are near copies of the first, and their index."""
    features = random_features(1200, 16)
    vectors = np.array(features.vectors, np.float32)
    half = len(vectors) // 2
    generator = np.random.default_rng(1)
    vectors[half:] = vectors[:half] + 0.05 * generator.standard_normal((half, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = dataclasses.replace(features, vectors=vectors.astype(np.float16))
    return features, build_index(features, num_probes=8)


def test_a_quantised_index_finds_most_of_the_same(copies):
    features, index = copies
    assert index.ntotal == 18_000 and index.nlist == 90  # of which a search looks through 8
    queries, owners = make_queries(features, 30)
    found = match_by_index(features, index, queries, owners, 1, num_nearest=2048)
    exact = match_exactly(features, queries, owners, 1)
    assert (found.images == exact.images).mean() > 0.9
    assert (found.images[:, 0] == (owners + 600) % 1200).mean() > 0.9


def test_more_probes_find_more(copies):
    features, index = copies
    queries, owners = make_queries(features, 30, seed=5)
    exact = match_exactly(features, queries, owners, 20)
    shares = []
    for index.nprobe in (1, 90):
        found = match_by_index(features, index, queries, owners, 20, num_nearest=4096)
        pairs = zip(found.images.tolist(), exact.images.tolist(), strict=True)
        shares.append(np.mean([len(set(one) & set(other)) / 20 for one, other in pairs]))
    index.nprobe = 8
    assert shares[0] < shares[1] - 0.1


def test_an_index_takes_any_seed_and_enough_patches():
    with pytest.raises(ValueError, match=r"at least 256 patches; search exactly\. Received: 105"):
        build_index(random_features(7))
    assert build_index(random_features(20), seed=2**31 - 1).ntotal == 300


def test_queries_of_another_shape_are_refused():
    features = random_features()
    queries, owners = make_queries(features)
    with pytest.raises(ValueError, match=r"`queries` must be \[constellations, 4, 8\]"):
        match_exactly(features, queries[:, :3], owners)
    with pytest.raises(ValueError, match="depth=0"):
        match_exactly(features, queries, owners, 0)
