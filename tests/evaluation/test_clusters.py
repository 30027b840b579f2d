"""`python -m evaluation.clusters`: figures beside k-means and chance, a sheet and a page."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from evaluation import clusters
from evaluation.clusters import Config
from keras_ctxattr.clustering import ClusterTable, KMeansClustering, alternate_clusters
from keras_ctxattr.clustering.metrics import (
    cluster_sizes,
    cut_to_sizes,
    nmi,
    purity,
    random_clusters,
)
from keras_ctxattr.features import FeatureTable
from tests.clustering.concepts import TINY, write_concepts


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Gives a run of one round after the first, on 240 images of 6 concepts, 40 each."""
    root = tmp_path_factory.mktemp("clusters")
    alternate_clusters([write_concepts(root / "images")], root / "run", TINY, rounds=1, seed=3)
    return root / "run"


@pytest.fixture(scope="module")
def scored(run_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "clusters"
    return out, clusters.main(Config(run=run_folder, out=out, labels="folders"))


TRUTH = np.repeat(np.arange(6), 40)  # images are listed folder by folder


def test_figures_are_those_of_the_metrics(run_folder, scored):
    _, results = scored
    assert [one["round"] for one in results["rounds"]] == [0, 1]
    for number, one in enumerate(results["rounds"]):
        table = ClusterTable.open(run_folder / f"rounds/{number}/clusters")
        for kind, labels in (("clustered", table.labels), ("assigned", table.assigned)):
            figures = one[kind]
            assert figures["purity"] == pytest.approx(purity(labels, TRUTH))
            assert figures["nmi"] == pytest.approx(nmi(labels, TRUTH))
            assert figures["num_clusters"] == len(cluster_sizes(labels))
            assert figures["coverage"] == pytest.approx(np.mean(labels >= 0))


def test_kmeans_is_cut_to_the_same_sizes_on_the_first_features(run_folder, scored):
    _, results = scored
    first = FeatureTable.open(run_folder / "rounds/0/features").vectors[:]
    labels = ClusterTable.open(run_folder / "rounds/1/clusters").labels
    sizes = cluster_sizes(labels)
    kmeans = KMeansClustering(len(sizes), random_state=0).fit(first)
    expected = purity(cut_to_sizes(kmeans.members_, sizes, 240), TRUTH)
    assert results["rounds"][1]["clustered"]["kmeans"]["purity"] == pytest.approx(expected)


def test_random_clusters_have_the_same_sizes_and_their_draws_are_averaged(run_folder, scored):
    _, results = scored
    for number, one in enumerate(results["rounds"]):
        labels = ClusterTable.open(run_folder / f"rounds/{number}/clusters").labels
        sizes = cluster_sizes(labels)
        draws = [purity(random_clusters(sizes, 240, seed), TRUTH) for seed in range(5)]
        assert one["clustered"]["random"]["purity"] == pytest.approx(np.mean(draws))
    # Hand-made features tell the concepts apart; a network of seconds need not.
    assert results["rounds"][0]["clustered"]["purity"] > np.max(draws) + 0.1


def test_top_of_the_results_is_the_last_kept_round(scored):
    out, results = scored
    kept = [one for one in results["rounds"] if one["kept"]][-1]
    for name in ("num_clusters", "purity", "coverage", "nmi"):
        assert results[name] == kept["clustered"][name]
    assert results["assigned"] == kept["assigned"]
    assert json.loads((out / "results.json").read_text())["rounds"] == results["rounds"]


def test_page_and_sheet_show_the_clusters(run_folder, scored):
    out, results = scored
    page = (out / "index.html").read_text()
    assert page.count("<article") == results["num_clusters"]
    assert "most frequent</dt><dd>concept" in page and "k-means on the first features" in page
    assert cv2.imread(str(out / "clusters.png")).std() > 10


def test_patches_on_a_card_are_the_cluster_s_best_ones_in_order(run_folder, tmp_path):
    table = ClusterTable.open(run_folder / "rounds/0/clusters")
    patches = clusters.PatchTable.open(run_folder / "patches")
    config = Config(run=run_folder, out=tmp_path, num_images=5)
    card = clusters._cards(table, patches, None, [], config)[0]
    rows = np.flatnonzero(table.labels == card.cluster_id)
    best = rows[np.argsort(-table.scores[rows], kind="stable")][:5]
    assert card.num_members == len(rows)
    for shown, row in zip(card.images, best, strict=True):
        np.testing.assert_array_equal(shown, patches.pixels[int(row)])


def test_without_labels_nothing_is_scored(run_folder, tmp_path):
    results = clusters.main(Config(run=run_folder, out=tmp_path / "out", round=0))
    assert "purity" not in results and results["num_clusters"] > 0
    assert (tmp_path / "out" / "index.html").is_file()


def test_images_without_a_label_do_not_count(run_folder, tmp_path):
    lines = [f"concept{n % 6}/{n:04d}.png,{'even' if n % 2 == 0 else 'odd'}" for n in range(60)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["image,label", *lines]) + "\n")
    results = clusters.main(Config(run=run_folder, out=tmp_path / "out", labels=str(table)))
    truth = np.full((6, 40), -1)
    truth[:, :10] = np.arange(6)[:, None] % 2  # the first ten of each concept are named
    known = truth.ravel() >= 0
    number = max(one["round"] for one in results["rounds"] if one["kept"])
    labels = ClusterTable.open(run_folder / f"rounds/{number}/clusters").labels
    assert results["purity"] == pytest.approx(purity(labels[known], truth.ravel()[known]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round": 7}, "`round` must be 0 to 1"),
        ({"labels": "nowhere.csv"}, "CSV file"),
    ],
)
def test_bad_questions_are_refused_in_one_line(run_folder, tmp_path, options, message):
    config = dataclasses.replace(Config(run=run_folder, out=tmp_path / "out"), **options)
    with pytest.raises(ValueError, match=message) as error:
        clusters.main(config)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_of_clusters_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run folder"):
        clusters.main(Config(run=tmp_path, out=tmp_path / "out"))


def test_report_prints_a_row_for_every_round_and_kind(run_folder, tmp_path, capsys):
    clusters.report(Config(run=run_folder, out=tmp_path / "out", labels="folders"))
    printed = capsys.readouterr().out
    for row in ("0 clustered", "0 assigned", "1 clustered", "1 assigned"):
        assert row in printed
