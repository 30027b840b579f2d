"""Seeds by k-means of all samples at once, or of mini-batches of them."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering import rows as rows_module
from keras_ctxattr.clustering import seeding as seeding_module
from keras_ctxattr.clustering.members import seed_clusters
from keras_ctxattr.clustering.rows import Rows
from keras_ctxattr.clustering.seeding import (
    choose_seeding,
    find_centres_in_batches,
    run_kmeans,
)
from keras_ctxattr.data.shards import ShardedArray
from tests.clustering.test_clustering import make_concepts
from tests.clustering.test_merging import as_rows


def make_mixture(num_rows=3000, num_centres=40, num_features=8, seed=0):
    generator = np.random.default_rng(seed)
    centres = 4 * generator.standard_normal((num_centres, num_features))
    vectors = centres[generator.integers(0, num_centres, num_rows)]
    return (vectors + generator.standard_normal(vectors.shape)).astype(np.float32)


@pytest.fixture
def small_batches(monkeypatch):
    """Mini-batches of 512 rows, whose tests then need few of them."""
    monkeypatch.setattr(seeding_module, "CHUNK", 512)
    monkeypatch.setattr(rows_module, "CHUNK", 512)


def test_samples_that_fit_are_clustered_whole_and_others_in_batches():
    assert choose_seeding("auto", 100, 8, 4 * 800) == "full"
    assert choose_seeding("auto", 101, 8, 4 * 800) == "minibatch"
    assert choose_seeding("full", 101, 8, 4 * 800) == "full"
    assert choose_seeding("minibatch", 1, 1, 1 << 40) == "minibatch"


def test_full_seeding_is_scikit_learns_kmeans():
    vectors = make_mixture()
    labels, distances = run_kmeans(as_rows(vectors), 30, 3, 1 << 30)
    plain = KMeans(30, n_init=1, max_iter=50, random_state=3).fit(vectors)
    np.testing.assert_array_equal(labels, plain.labels_)
    nearest = np.linalg.norm(vectors[:, None] - plain.cluster_centers_, axis=2).min(axis=1)
    np.testing.assert_allclose(distances, nearest, rtol=1e-4)


def test_one_batch_of_all_rows_is_one_step_of_lloyd():
    vectors = make_mixture(num_rows=700)
    rows = as_rows(vectors)
    start = seeding_module._draw_centres(rows, 250, np.random.default_rng(5))
    nearest = ((vectors[:, None] - start) ** 2).sum(axis=2).argmin(axis=1)
    expected = np.stack([vectors[nearest == number].mean(axis=0) for number in range(250)])
    kmeans = find_centres_in_batches(rows, 250, 5, num_sweeps=1)
    np.testing.assert_allclose(kmeans.cluster_centers_, expected, atol=1e-4)


def test_batches_hold_every_row_once_a_sweep_and_never_fewer_than_centres():
    generator = np.random.default_rng(0)
    for num_rows, size in ((1000, 130), (1000, 999), (1000, 1000), (64, 1), (65, 65), (5000, 512)):
        batches = list(seeding_module._draw_batches(num_rows, size, generator))
        rows = np.concatenate(batches)
        np.testing.assert_array_equal(np.sort(rows), np.arange(num_rows))
        assert len(batches[0]) >= size
        assert all((np.diff(batch) > 0).all() for batch in batches)
        assert max(len(batch) for batch in batches) <= size + 2 * 64


@pytest.mark.parametrize("num_clusters", [20, 250])  # by k-means++, and by a draw
def test_batches_are_nearly_as_compact_as_the_whole(small_batches, num_clusters):
    rows = as_rows(make_mixture())
    full, batches = (
        np.square(run_kmeans(rows, num_clusters, 0, 1 << 30, seeding)[1]).sum()
        for seeding in ("full", "minibatch")
    )
    assert batches < 1.25 * full
    drawn = rows[np.random.default_rng(0).choice(len(rows), num_clusters, replace=False)]
    start = ((rows[:][:, None] - drawn) ** 2).sum(axis=2).min(axis=1).sum()
    assert batches < 0.8 * start


def test_the_result_is_that_of_data_and_seed_alone(small_batches, tmp_path):
    """Neither the sizes of shards nor what was drawn before change a bit."""
    vectors = make_mixture()
    found = []
    for number, shard in enumerate((3000, 700, 64)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for place, start in enumerate(range(0, len(vectors), shard)):
            np.save(folder / f"{place:05d}.npy", vectors[start : start + shard])
        table = ShardedArray(sorted(folder.glob("*.npy")))
        zeros = np.zeros(8, np.float32)
        rows = Rows(table=table, numbers=np.arange(len(table)), mean=zeros, scale=1.0)
        found.append(run_kmeans(rows, 250, 1, 0, "minibatch"))
        np.random.rand(number + 1)  # noqa: NPY002
    for labels, distances in found[1:]:
        np.testing.assert_array_equal(labels, found[0][0])
        np.testing.assert_array_equal(distances, found[0][1])
    other = run_kmeans(as_rows(vectors), 250, 2, 0, "minibatch")[0]
    assert not np.array_equal(other, found[0][0])


def test_rows_in_an_order_of_their_own_are_no_trouble(small_batches):
    """Batches were once runs of rows from the first on: a sorted table started with one concept."""
    vectors = make_mixture()
    ordered = vectors[np.argsort(vectors[:, 0])]
    mixed, ordered = (
        np.square(run_kmeans(as_rows(table), 250, 0, 0, "minibatch")[1]).sum()
        for table in (vectors, ordered)
    )
    assert ordered < 1.1 * mixed


class Counting:
    """A table that remembers the most rows it was asked for at once, and how many in all."""

    def __init__(self, rows):
        self.rows, self.shape, self.most, self.total = rows, rows.shape, 0, 0

    def __getitem__(self, chosen):
        found = self.rows[chosen]
        self.most, self.total = max(self.most, len(found)), self.total + len(found)
        return found


def test_no_more_rows_than_a_batch_are_in_memory(small_batches):
    table = Counting(make_mixture(num_rows=6000))
    zeros = np.zeros(8, np.float32)
    rows = Rows(table=table, numbers=np.arange(6000), mean=zeros, scale=1.0)
    run_kmeans(rows, 300, 0, 4 * 6000 * 8 - 1)
    assert table.most <= 512 + 2 * 64
    assert table.total <= 4 * 6000 + 300  # three sweeps, the labels, the start


def test_few_centres_do_not_need_every_row(small_batches):
    table = Counting(make_mixture(num_rows=6000))
    zeros = np.zeros(8, np.float32)
    rows = Rows(table=table, numbers=np.arange(6000), mean=zeros, scale=1.0)
    find_centres_in_batches(rows, 2, 0)
    assert 2000 <= table.total <= 2000 + 3 * (512 + 2 * 64)


def test_clustering_from_seeds_of_batches_finds_the_concepts(small_batches):
    vectors, concepts = make_concepts()
    clustering = DiscriminativeClustering(seeding="minibatch").fit(vectors)
    again = DiscriminativeClustering(seeding="minibatch").fit(vectors)
    np.testing.assert_array_equal(clustering.labels_, again.labels_)
    assert not np.array_equal(
        clustering.labels_, DiscriminativeClustering(seeding="full").fit(vectors).labels_
    )
    for rows in clustering.members_[:5]:
        assert np.bincount(concepts[rows] + 1).max() / len(rows) > 0.8


def test_as_many_centres_as_rows_are_found_in_batches(small_batches):
    vectors = make_mixture(num_rows=1000)
    options = {"min_size": 1, "max_size": 3, "random_state": 0, "memory_bytes": 0}
    seeds = seed_clusters(as_rows(vectors), samples_per_cluster=1, **options)
    assert len(np.unique(np.concatenate(seeds))) == sum(len(rows) for rows in seeds)


@pytest.mark.parametrize("call", ["estimator", "function"])
def test_another_seeding_is_one_line_with_what_there_is(call):
    with pytest.raises(ValueError) as caught:
        if call == "estimator":
            DiscriminativeClustering(seeding="mini").fit(make_mixture())
        else:
            run_kmeans(as_rows(make_mixture()), 3, 0, 0, "mini")
    assert str(caught.value) == ("`seeding` must be one of auto, full, minibatch. Received: 'mini'")
