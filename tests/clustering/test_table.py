"""Clusters on the disk: what was saved comes back, and what does not fit is refused."""

import shutil
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from keras_ctxattr.clustering import ClusterTable, DiscriminativeClustering
from tests.clustering.test_clustering import WORLD, make_concepts

ARRAYS = (
    "labels",
    "assigned",
    "scores",
    "classifiers",
    "mean",
    "discriminativeness",
    "validation_rows",
)


def make_table(num_samples=30, sizes=(5, 0, 3, 4), **changes):
    """Gives clusters of so many members; no sample is in the second of them."""
    generator = np.random.default_rng(num_samples)
    used = np.setdiff1d(np.arange(len(sizes)), [1])
    drawn = generator.choice(used, num_samples) if len(used) else np.full(num_samples, -1)
    scores = generator.normal(size=num_samples) if len(used) else np.full(num_samples, -np.inf)
    parts = {
        "labels": np.where(scores > 0, drawn, -1).astype(np.int32),
        "assigned": drawn.astype(np.int32),
        "scores": scores.astype(np.float32),
        "classifiers": generator.normal(size=(len(sizes), 7)).astype(np.float32),
        "mean": generator.normal(size=6).astype(np.float32),
        "discriminativeness": -np.sort(generator.normal(size=len(sizes))).astype(np.float32),
        "members": [generator.permutation(99)[:size] for size in sizes],
        "validation_rows": np.arange(0, num_samples, 10),
        "facts": {"seed": 3, "features": "HOG", "sides": [8, 16]},
    }
    return ClusterTable(**(parts | changes))


def assert_same(found, expected):
    for name in ARRAYS:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert len(found.members) == len(expected.members)
    for one, other in zip(found.members, expected.members, strict=True):
        assert one.dtype == np.int64
        np.testing.assert_array_equal(one, other)
    assert found.facts == expected.facts


# ---- on the disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_samples", "sizes"),
    [(30, (5, 0, 3, 4)), (30, (0, 0, 3)), (30, (3, 0)), (30, (0,)), (30, ()), (0, (2,)), (0, ())],
)
def test_clusters_are_read_as_they_were_saved(tmp_path, num_samples, sizes):
    table = make_table(num_samples, sizes)
    table.save(tmp_path / "clusters")
    opened = ClusterTable.open(str(tmp_path / "clusters"))
    assert_same(opened, table)
    assert (len(opened), opened.num_clusters) == (num_samples, len(sizes))


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path):
    make_table(sizes=(5, 5)).save(tmp_path / "clusters")
    make_table(sizes=(2, 0, 1)).save(tmp_path / "clusters")
    assert_same(ClusterTable.open(tmp_path / "clusters"), make_table(sizes=(2, 0, 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["clusters"]
    files = sorted(path.name for path in (tmp_path / "clusters").iterdir())
    assert files == ["clusters.json", "clusters.npz"]


def test_what_cannot_be_written_leaves_the_old_clusters(tmp_path):
    make_table().save(tmp_path / "clusters")
    with pytest.raises(TypeError):
        make_table(facts={"made": object()}).save(tmp_path / "clusters")
    assert_same(ClusterTable.open(tmp_path / "clusters"), make_table())
    assert [path.name for path in tmp_path.iterdir()] == ["clusters"]


def edit_arrays(folder, **changes):
    with np.load(folder / "clusters.npz", allow_pickle=False) as stored:
        arrays = {**stored, **changes}
    kept = {name: values for name, values in arrays.items() if values is not None}
    np.savez(folder / "clusters.npz", **kept)


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGES = {
    "missing": shutil.rmtree,
    "no json": lambda folder: (folder / "clusters.json").unlink(),
    "no arrays": lambda folder: (folder / "clusters.npz").unlink(),
    "half a json": lambda folder: cut(folder / "clusters.json", 0.5),
    "no facts": lambda folder: (folder / "clusters.json").write_text('{"format": 2}'),
    "list": lambda folder: (folder / "clusters.json").write_text("[]"),
    "not UTF-8": lambda folder: (folder / "clusters.json").write_bytes(b'{"facts": "\xff"}'),
    "text": lambda folder: (folder / "clusters.npz").write_text("no arrays here"),
    "no labels": lambda folder: edit_arrays(folder, labels=None),
    "no member counts": lambda folder: edit_arrays(folder, member_counts=None),
    "more arrays": lambda folder: edit_arrays(folder, others=np.zeros(3)),
    "short scores": lambda folder: edit_arrays(folder, scores=np.zeros(3, np.float32)),
    "objects": lambda folder: edit_arrays(folder, labels=np.array([None] * 30)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_missing_clusters_are_one_line(tmp_path, damage):
    folder = tmp_path / "clusters"
    make_table().save(folder)
    DAMAGES[damage](folder)
    with pytest.raises(ValueError, match=r"clusters.npz and clusters.json") as caught:
        ClusterTable.open(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


# ---- what fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": np.zeros(29, np.int32)},
        {"assigned": np.zeros(31, np.int32)},
        {"scores": np.zeros((30, 1), np.float32)},
        {"labels": np.full(30, 4, np.int32)},
        {"classifiers": np.zeros(4, np.float32)},
        {"classifiers": np.zeros((3, 7), np.float32)},
        {"discriminativeness": np.zeros(5, np.float32)},
        {"members": [np.arange(3)] * 3},
    ],
    ids=["labels", "assigned", "scores", "label", "axes", "classifiers", "ranks", "members"],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(wrong):
    with pytest.raises(ValueError, match=r"Clusters must be.*Received: ") as caught:
        make_table(**wrong)
    assert "\n" not in str(caught.value)


# ---- ranks ---------------------------------------------------------------------------------------


def test_rows_are_ranked_by_falling_score_and_equal_scores_by_place():
    labels = np.array([2, 0, -1, 2, 0, 2], np.int32)
    scores = np.array([0.5, 0.1, 9.0, 0.7, 0.3, 0.5], np.float32)
    table = make_table(6, labels=labels, scores=scores)
    assert [rows.tolist() for rows in table.ranked_rows(labels)] == [[4, 1], [], [3, 0, 5], []]
    assert [len(rows) for rows in table.ranked_rows(np.full(6, -1))] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["labels", "assigned"])
def test_ranks_equal_the_restatement(name):
    table = make_table(200)
    labels = getattr(table, name)
    expected = [
        sorted(np.flatnonzero(labels == number).tolist(), key=lambda row: -table.scores[row])
        for number in range(table.num_clusters)
    ]
    assert [rows.tolist() for rows in table.ranked_rows(labels)] == expected


@pytest.mark.parametrize("num_samples", [0, 5])
def test_without_clusters_nothing_is_ranked(num_samples):
    table = make_table(num_samples, sizes=())
    assert table.ranked_rows(table.labels) == []


# ---- from an estimator ---------------------------------------------------------------------------


def test_clusters_of_a_fitted_estimator_say_what_it_says(tmp_path):
    vectors, _ = make_concepts()
    clustering = DiscriminativeClustering().fit(vectors, WORLD)
    facts = {"samples": np.int64(len(vectors)), "sides": (8, 16)}
    ClusterTable.of(clustering, vectors, facts).save(tmp_path / "clusters")
    table = ClusterTable.open(tmp_path / "clusters")
    np.testing.assert_array_equal(table.labels, clustering.predict(vectors))
    scores = clustering.decision_function(vectors)
    np.testing.assert_array_equal(table.assigned, scores.argmax(axis=1))
    np.testing.assert_allclose(table.scores, scores.max(axis=1), rtol=1e-5, atol=1e-5)
    for found, expected in zip(
        (table.assigned, table.scores), clustering.assign(vectors), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    above = table.scores > 0
    np.testing.assert_array_equal(table.labels, np.where(above, table.assigned, -1))
    np.testing.assert_array_equal(table.classifiers, clustering.classifiers_)
    np.testing.assert_array_equal(table.discriminativeness, clustering.scores_)
    for found, expected in zip(table.members, clustering.members_, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(table.validation_rows, clustering.validation_rows_)
    assert table.facts == {"samples": 960, "sides": [8, 16]}


def test_an_estimator_without_clusters_is_kept_too(tmp_path):
    vectors, _ = make_concepts(num_noise=60)
    strict = DiscriminativeClustering(firing_threshold=50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        strict.fit(vectors)
    ClusterTable.of(strict, vectors, {}).save(tmp_path / "clusters")
    table = ClusterTable.open(tmp_path / "clusters")
    assert table.num_clusters == 0 and table.classifiers.shape == (0, vectors.shape[1] + 1)
    assert (table.labels == -1).all() and (table.assigned == -1).all()
    assert np.isneginf(table.scores).all()
