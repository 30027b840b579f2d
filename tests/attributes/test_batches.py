"""Triplet batches: who is in them, how often, and that step s needs no step before it."""

import itertools

import numpy as np
import pytest

from keras_ctxattr.attributes.batches import (
    _draw_different,
    neighbour_batches,
    triplet_batches,
)

LABELS = np.array([0] * 50 + [3] * 2 + [7] * 10 + [-1] * 20 + [9] + [4] * 5)
SAMPLES = np.arange(len(LABELS), dtype=np.float32)[:, None]


def take(count, **options):
    batches = triplet_batches(SAMPLES, LABELS, **{"batch_size": 8, **options})
    return [
        (samples.numpy()[:, 0].astype(int), ids.numpy(), positives.numpy())
        for samples, (ids, positives) in itertools.islice(batches, count)
    ]


@pytest.mark.parametrize("samples_per_cluster", [2, 4])
def test_positives_are_other_samples_of_the_same_cluster(samples_per_cluster):
    labels = np.repeat(np.arange(6), 9)
    samples = np.arange(54, dtype=np.float32)[:, None]
    batches = triplet_batches(
        samples, labels, batch_size=16, samples_per_cluster=samples_per_cluster
    )
    for taken, (ids, positives) in itertools.islice(batches, 20):
        rows, ids, positives = taken.numpy()[:, 0].astype(int), ids.numpy(), positives.numpy()
        np.testing.assert_array_equal(labels[rows], ids)
        np.testing.assert_array_equal(ids[positives], ids)
        assert (rows[positives] != rows).all()
        assert sorted(positives) == list(range(16))


def test_clusters_take_turns_however_large_they_are():
    ids = np.concatenate([ids for _, ids, _ in take(200)])
    names, counts = np.unique(ids, return_counts=True)
    assert names.tolist() == [0, 3, 4, 7]  # no noise, and none of a single sample
    assert (counts == 400).all()
    rows = np.concatenate([rows for rows, _, _ in take(200)])
    assert set(rows) == set(np.flatnonzero(np.isin(LABELS, names)))


def test_a_step_is_a_function_of_the_seed_and_its_number():
    whole, later = take(12, seed=5), take(5, seed=5, first_step=7)
    for one, other in zip(whole[7:], later, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(take(1, seed=6)[0][0], whole[0][0])


def test_different_numbers_are_drawn_uniformly():
    keys = np.random.default_rng(0).random((60_000, 3))
    drawn = _draw_different(keys, np.full(60_000, 4))
    triples, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(triples) == 24 and np.abs(counts / 2500 - 1).max() < 0.1
    extreme = _draw_different(np.array([[0, 0, 0], [0.999999] * 3]), np.array([3, 3]))
    np.testing.assert_array_equal(extreme, [[0, 1, 2], [2, 1, 0]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples_per_cluster": 1}, "at least 2"),
        ({"batch_size": 7}, "divide"),
        ({"samples_per_cluster": 20, "batch_size": 40}, "at least 2 clusters of 20"),
    ],
)
def test_impossible_batches_are_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        take(1, **options)


def test_every_sample_takes_its_turn_with_one_of_its_neighbours():
    neighbours = np.stack([np.arange(90) + 90, np.arange(90) + 180], axis=1)
    neighbours = np.concatenate([neighbours, neighbours, neighbours])
    samples = np.arange(270, dtype=np.float32)[:, None]
    batches = neighbour_batches(samples, neighbours, batch_size=18, seed=3)
    seen = []
    for taken, (ids, positives) in itertools.islice(batches, 60):  # two passes of 270 pairs
        rows = taken.numpy()[:, 0].astype(int)
        np.testing.assert_array_equal(ids, np.repeat(np.arange(9), 2))
        np.testing.assert_array_equal(ids.numpy()[positives], ids)
        assert (positives.numpy() != np.arange(18)).all()
        assert all(rows[i + 1] in neighbours[rows[i]] for i in range(0, 18, 2))
        seen.append(rows)
    turns = np.concatenate(seen)[::2]
    assert sorted(turns[:270]) == sorted(turns[270:]) == list(range(270))
    drawn = set(np.concatenate(seen)[1::2])  # each is drawn six times with probability 1/2
    assert drawn < set(range(90, 270)) and len(drawn) > 160
    later = next(iter(neighbour_batches(samples, neighbours, batch_size=18, seed=3, first_step=4)))
    np.testing.assert_array_equal(later[0][:, 0], seen[4])


def test_neighbours_must_be_of_the_samples():
    with pytest.raises(ValueError, match=r"\[n, k\] of the n samples"):
        neighbour_batches(SAMPLES, np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="even"):
        neighbour_batches(SAMPLES, np.zeros((len(SAMPLES), 2), int), batch_size=7)


@pytest.mark.parametrize("num_devices", [2, 3])
def test_devices_that_share_a_batch_have_what_one_device_has(num_devices):
    labels = np.repeat(np.arange(9), 7)
    samples = np.arange(63, dtype=np.float32)[:, None]
    options = {"batch_size": 12, "seed": 5, "first_step": 2}
    whole = triplet_batches(samples, labels, **options).take(3)
    size = 12 // num_devices
    for device in range(num_devices):
        own = slice(device * size, (device + 1) * size)
        parts = triplet_batches(samples, labels, share=(device, num_devices), **options).take(3)
        for (part, (ids, near)), (batch, (clusters, positives)) in zip(parts, whole, strict=True):
            np.testing.assert_array_equal(part, batch[own])
            np.testing.assert_array_equal(ids, clusters[own])
            np.testing.assert_array_equal(near, positives[own] - own.start)
            assert near.numpy().min() >= 0 and near.numpy().max() < size


@pytest.mark.parametrize(("share", "devices"), [((0, 4), 4), ((2, 2), 2)])
def test_a_batch_that_cannot_be_shared_equally_is_one_line(share, devices):
    labels = np.repeat(np.arange(4), 4)
    with pytest.raises(ValueError, match=f"multiple of the number.*batch_size=12, {devices} dev"):
        triplet_batches(np.zeros((16, 2)), labels, batch_size=12, share=share)
