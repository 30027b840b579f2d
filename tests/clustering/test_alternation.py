"""Clusters and networks in turn: what a round learns from, when it ends, and how it goes on."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.clustering import (
    AlternationRecipe,
    ClusterTable,
    DiscriminativeClustering,
    alternate_clusters,
)
from keras_ctxattr.clustering.alternation import rounds
from keras_ctxattr.clustering.alternation.network import build_classifier, cluster_batches
from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.export import read_module
from keras_ctxattr.features import FeatureTable
from keras_ctxattr.runs import Run, RunError
from tests.clustering.concepts import TINY, write_concepts


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("concepts"))


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """Gives the folder and the summary of a run of two rounds that nobody disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, alternate_clusters([images], folder, TINY, rounds=2, seed=3)


def labels_of(folder):
    """Gives the labels of every round, and the scores that they follow from."""
    tables = [ClusterTable.open(path) for path in sorted(folder.glob("rounds/*/clusters"))]
    return [(table.labels.tolist(), table.scores.tolist()) for table in tables]


def metrics_of(folder):
    """Gives what every epoch of every network measured, but for the time."""
    runs = [Run.read(path) for path in sorted(folder.glob("rounds/*/training"))]
    return [[{**row, "seconds": 0} for row in run.metrics.rows()] for run in runs]


class Stop(keras.callbacks.Callback):
    """Interrupts training before a step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


# --- A whole run ---


def test_concepts_are_found_and_every_round_leaves_what_it_made(images, finished):
    folder, summary = finished
    assert summary["num_patches"] == 240
    first = ClusterTable.open(folder / "rounds/0/clusters")
    truth = np.arange(240) % 6
    keys = Run.read(folder).config["images"]
    assert keys == [str(images)]
    # Images are listed folder by folder: 40 of each concept.
    truth = np.sort(truth)
    found = first.labels >= 0
    counts = np.zeros((first.num_clusters, 6), int)
    np.add.at(counts, (first.labels[found], truth[found]), 1)
    assert counts.max(axis=1).sum() / counts.sum() > 0.8  # chance: about .35
    for number in range(1, len(summary["rounds"])):
        round_folder = folder / "rounds" / str(number)
        assert (round_folder / "training" / "metrics.csv").is_file()
        vectors = FeatureTable.open(round_folder / "features").vectors
        assert np.allclose(np.linalg.norm(vectors[:], axis=1), 1, atol=1e-3)


def test_rows_of_metrics_are_the_rounds_of_the_summary(finished):
    folder, summary = finished
    rows = Run.read(folder).metrics.rows()
    assert [row["step"] for row in rows] == [one["round"] for one in summary["rounds"]]
    for row, one in zip(rows, summary["rounds"], strict=True):
        assert row["num_clusters"] == one["num_clusters"]
        assert row["coverage"] == pytest.approx(one["coverage"])


def test_module_of_a_round_gives_its_features(images, finished):
    folder, _ = finished
    module = tf.saved_model.load(str(folder / "rounds/1/module"))
    pixels = np.load(folder / "patches/00000/pixels.npy")[:8]
    vectors = tf.math.l2_normalize(module(pixels / np.float32(255)), axis=1).numpy()
    stored = FeatureTable.open(folder / "rounds/1/features").vectors[:8]
    np.testing.assert_allclose(vectors, stored, atol=1e-5)
    described = read_module(folder / "rounds/1/module")
    assert described["trained_on"] == {"images": [str(images)], "round": 1}
    assert described["config"] == Run.read(folder).config
    last = Run.read(folder / "rounds/1/training").metrics.rows()[-1]
    assert described["metrics"] == {
        "training_accuracy": last["accuracy"],
        "training_loss": last["loss"],
        "step": last["step"],
    }


def test_same_command_again_does_nothing(images, finished, monkeypatch):
    folder, summary = finished
    monkeypatch.setattr(rounds, "train_classifier", None)
    monkeypatch.setattr(DiscriminativeClustering, "fit", None)
    assert alternate_clusters([images], folder, TINY, rounds=2, seed=3) == summary


def test_same_seed_gives_the_same_labels_and_another_seed_others(images, finished, tmp_path):
    alternate_clusters([images], tmp_path / "again", TINY, rounds=2, seed=3)
    assert labels_of(tmp_path / "again") == labels_of(finished[0])
    alternate_clusters([images], tmp_path / "other", TINY, rounds=0, seed=4)
    assert labels_of(tmp_path / "other")[0] != labels_of(finished[0])[0]


def test_more_rounds_go_on_where_fewer_ended(images, finished, tmp_path):
    folder = tmp_path / "run"
    short = alternate_clusters([images], folder, TINY, rounds=0, seed=3)
    assert (short["kept"], len(short["rounds"])) == (0, 1)
    assert alternate_clusters([images], folder, TINY, rounds=2, seed=3) == finished[1]
    assert labels_of(folder) == labels_of(finished[0])


# --- Interrupted ---


@pytest.mark.parametrize("step", [0, 3, 5])
def test_interrupted_training_goes_on_to_the_same_labels(images, finished, tmp_path, step):
    """Inside an epoch it once did not: Keras had not made the accuracy's variables yet."""
    folder = tmp_path / "run"
    recipe = dataclasses.replace(TINY, checkpoint_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        alternate_clusters([images], folder, recipe, rounds=2, seed=3, callbacks=[Stop(step)])
    if step == 3:
        assert Run.read(folder / "rounds/1/training").latest_checkpoint().state["epoch_step"] > 0
    alternate_clusters([images], folder, recipe, rounds=2, seed=3)
    assert labels_of(folder) == labels_of(finished[0])
    assert metrics_of(folder) == metrics_of(finished[0])


def test_interrupted_clustering_starts_it_again(images, finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DiscriminativeClustering, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            alternate_clusters([images], folder, TINY, rounds=2, seed=3)
    assert not (folder / "rounds/0/clusters").exists()
    alternate_clusters([images], folder, TINY, rounds=2, seed=3)
    assert labels_of(folder) == labels_of(finished[0])


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_labels(images, finished, tmp_path):
    """`kill -9`, as often as CTXATTR_KILLS says, after a drawn time each."""
    folder = tmp_path / "run"
    code = (
        "import sys; from keras_ctxattr.clustering import alternate_clusters\n"
        "from tests.clustering.concepts import TINY\n"
        "alternate_clusters([sys.argv[1]], sys.argv[2], TINY, rounds=2, seed=3)"
    )
    command = [sys.executable, "-c", code, str(images), str(folder)]
    generator = random.Random(5)
    num_kills, reached = int(os.environ.get("CTXATTR_KILLS", "1")), []
    began = time.monotonic()
    subprocess.run([*command[:-1], str(tmp_path / "timed")], check=True, capture_output=True)
    whole = time.monotonic() - began
    while len(reached) < num_kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.2, 0.9) * whole)
        killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not killed:  # done before the kill: nothing was interrupted, start anew
            assert labels_of(folder) == labels_of(finished[0])
            shutil.rmtree(folder)
            continue
        reached.append(sorted(path.name for path in folder.glob("rounds/*/*")))
    subprocess.run(command, check=True, capture_output=True)
    assert labels_of(folder) == labels_of(finished[0])
    assert any(reached), "no kill came after the first scan"


# --- When it ends ---


def test_round_that_lowers_firing_precision_is_not_kept(images, tmp_path, monkeypatch):
    measured = rounds._measure
    given = iter([0.8, 0.5])

    def measure(clustering):
        return {**measured(clustering), "firing_precision": next(given)}

    monkeypatch.setattr(rounds, "_measure", measure)
    summary = alternate_clusters([images], tmp_path / "run", TINY, rounds=3)
    assert summary["kept"] == 0 and len(summary["rounds"]) == 2
    assert "firing precision fell from 80.0% to 50.0%" in summary["stopped"]
    table = ClusterTable.open(tmp_path / "run/rounds/1/clusters")
    assert not table.facts["round"]["kept"]


def test_it_stops_when_clusters_settle(images, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "agreement", lambda labels, before: float(before is not None))
    monkeypatch.setattr(rounds, "_why_not", lambda figures, before: "")
    summary = alternate_clusters([images], tmp_path / "run", TINY, rounds=3)
    assert summary["stopped"] == "round 1 settled" and summary["kept"] == 1


def test_collapsed_clusters_are_reported_and_not_kept(images, tmp_path, monkeypatch, capsys):
    measured = rounds._measure

    def measure(clustering):
        figures = measured(clustering)
        return figures if len(calls) == 0 else {**figures, "largest_share": 0.9, "num_empty": 7}

    calls = []
    monkeypatch.setattr(rounds, "_measure", lambda c: (measure(c), calls.append(c))[0])
    summary = alternate_clusters([images], tmp_path / "run", TINY, rounds=3)
    assert "clusters collapsed" in summary["stopped"] and "90%" in summary["stopped"]
    assert "7 clusters without a patch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "before", "value"),
    [
        ([0, 0, 1, 1, -1], [1, 1, 0, 0, 2], 1.0),  # other numbers, the same clusters
        ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),  # worse than chance
        ([-1, -1, 0], [0, 0, -1], 0.0),  # nothing in common
        ([0, 1], None, 0.0),
    ],
)
def test_agreement_by_hand(labels, before, value):
    before = None if before is None else np.array(before)
    assert rounds.agreement(np.array(labels), before) == pytest.approx(value)


def test_first_round_is_kept_whatever_its_precision():
    figures = {"num_clusters": 5, "largest_share": 0.1, "firing_precision": float("nan")}
    assert rounds._why_not(figures, None) == ""
    assert "fell" in rounds._why_not(figures, {"firing_precision": 0.5})
    assert rounds._why_not({**figures, "firing_precision": 0.5}, {"firing_precision": None}) == ""


# --- What the network learns from ---


def test_batches_are_a_function_of_the_step_and_every_pass_shows_all():
    pixels = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    rows, labels = np.arange(5, 45), np.arange(40) % 7

    def take(first_step, count):
        batches = cluster_batches(pixels, rows, labels, batch_size=8, seed=2, first_step=first_step)
        return [(images[:, 0, 0, 0].numpy(), ids.numpy()) for images, ids in batches.take(count)]

    whole = take(0, 10)
    later = take(7, 3)
    for (one, ids), (other, other_ids) in zip(whole[7:], later, strict=True):
        assert one.tolist() == other.tolist() and ids.tolist() == other_ids.tolist()
    for start in (0, 5):
        seen = np.concatenate([images for images, _ in whole[start : start + 5]])
        assert np.sort(seen).tolist() == rows.tolist()
    for images, ids in whole:
        assert ids.tolist() == labels[images - 5].tolist()


def test_no_network_sees_a_validation_patch(images, tmp_path, monkeypatch):
    seen = []
    trained = rounds.train_classifier

    def train(patches, labels, *arguments, **options):
        seen.append(labels)
        return trained(patches, labels, *arguments, **options)

    monkeypatch.setattr(rounds, "train_classifier", train)
    alternate_clusters([images], tmp_path / "run", TINY, rounds=1)
    table = ClusterTable.open(tmp_path / "run/rounds/0/clusters")
    assert (table.labels[table.validation_rows] >= 0).any()
    assert (seen[0][table.validation_rows] == -1).all()
    others = np.setdiff1d(np.arange(len(table)), table.validation_rows)
    assert seen[0][others].tolist() == table.labels[others].tolist()


def test_loss_falls_and_a_network_begins_where_the_last_one_ended(images, finished):
    folder, _ = finished
    rows = Run.read(folder / "rounds/1/training").metrics.rows()
    assert 0 < rows[-1]["loss"] < rows[0]["loss"]
    fresh = build_classifier(TINY, 5, seed=5).get_layer("backbone")
    first, second = (
        keras.saving.load_model(folder / f"rounds/{number}/training/backbone.keras")
        for number in (1, 2)
    )

    def distance(network, other):
        pairs = zip(network.trainable_weights, other.trainable_weights, strict=True)
        return sum(float(np.square(np.subtract(a.numpy(), b.numpy())).sum()) for a, b in pairs)

    assert distance(second, first) < distance(second, fresh) / 2


def test_classifier_transforms_in_training_only():
    model = build_classifier(TINY, 4)
    patches = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    first, second = (model(patches, training=False).numpy() for _ in range(2))
    assert first.shape == (6, 4) and (first == second).all()
    copies = [model.get_layer("copies")(patches, training=True).numpy() for _ in range(2)]
    assert not np.allclose(copies[0], copies[1])


# --- What cannot be used ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "pixel"}, "`unit` must be one of"),
        ({"backbone": "resnet"}, "`backbone` must be one of"),
        ({"copies": 0}, "at least 1"),
        ({"dropout": 1.0}, "`dropout` in"),
        ({"learning_rate": float("nan")}, "`learning_rate` must"),
        ({"transformations": {"zoom": 2}}, "`transformations` may hold shift, .*flip. Received: z"),
        ({"transformations": {"flip": 2}}, "`flip` must be between 0 and 1"),
        ({"clustering": {"random_state": 1}}, "`clustering` may hold samples_per_cluster, "),
    ],
)
def test_impossible_recipes_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        AlternationRecipe(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ({"features": "sift"}, {}, "Features must be one of hog"),
        ({}, {"rounds": -1}, "`rounds` must be at least 0"),
        ({}, {"seed": -1}, "`seed` from 0"),
        ({"unit": "contour"}, {"images": ["a", "b"]}, "one folder or archive"),
        ({"unit": "contour"}, {}, "groundTruth|ground truth|data set"),
        ({"unit": "random", "size": 96}, {}, "large enough|usable"),
    ],
)
def test_impossible_calls_leave_no_folder(images, tmp_path, recipe, options, message):
    given = {"images": [images], **options}
    recipe = dataclasses.replace(TINY, **recipe)
    with pytest.raises(ValueError, match=message):
        alternate_clusters(given.pop("images"), tmp_path / "run", recipe, **given)
    assert not (tmp_path / "run").exists()


def test_too_few_images_say_so(tmp_path):
    few = write_concepts(tmp_path / "few", num_images=5)
    with pytest.raises((RunError, ValueError), match=r"samples|clusters"):
        alternate_clusters([few], tmp_path / "run", TINY, rounds=1)


def test_unreadable_images_are_an_error_of_the_collection(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"no picture")
    with pytest.raises(CollectionError, match="At least one image must be usable"):
        alternate_clusters([tmp_path / "bad"], tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_another_recipe_in_the_same_folder_is_refused(images, finished):
    recipe = dataclasses.replace(TINY, copies=3)
    with pytest.raises(RunError, match="recipe"):
        alternate_clusters([images], finished[0], recipe, rounds=2, seed=3)


def test_facts_are_json(finished):
    folder, _ = finished
    facts = json.loads((folder / "rounds/0/clusters/clusters.json").read_text())["facts"]
    assert {"round", "history", "parameters"} == facts.keys()
    assert facts["parameters"]["num_iterations"] == 2


def test_kmeans_takes_the_place_of_discriminative_clustering(images, tmp_path):
    recipe = dataclasses.replace(TINY, method="kmeans", clustering={"num_clusters": 7})
    summary = alternate_clusters([images], tmp_path / "run", recipe, rounds=1, seed=3)
    assert [one["num_clusters"] for one in summary["rounds"]] == [7, 7]
    assert [one["coverage"] for one in summary["rounds"]] == [1.0, 1.0] and summary["kept"] == 1
    table = ClusterTable.open(tmp_path / "run/rounds/1/clusters")
    np.testing.assert_array_equal(table.labels, table.assigned)


def test_a_method_takes_its_own_arguments_alone():
    with pytest.raises(ValueError, match="may hold num_clusters, normalize"):
        AlternationRecipe(method="kmeans", clustering={"C": 1.0})
    with pytest.raises(ValueError, match="`method` must be one of"):
        AlternationRecipe(method="spectral")


def test_a_network_begins_with_the_weights_that_it_is_given(images, finished, tmp_path):
    start = finished[0] / "rounds/1/training/backbone.keras"
    recipe = dataclasses.replace(TINY, learning_rate=1e-9, copies=1)
    alternate_clusters([images], tmp_path / "run", recipe, rounds=1, start=start, seed=3)
    first, then = (
        keras.saving.load_model(path).trainable_weights
        for path in (start, tmp_path / "run/rounds/1/training/backbone.keras")
    )
    for before, after in zip(first, then, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
    # The same weights elsewhere are the same run.
    shutil.copy(start, tmp_path / "copy.keras")
    options = {"rounds": 1, "seed": 3}
    alternate_clusters([images], tmp_path / "run", recipe, start=tmp_path / "copy.keras", **options)
    with pytest.raises(RunError, match="start"):
        alternate_clusters([images], tmp_path / "run", recipe, **options)
    with pytest.raises(ValueError, match="whose weights have the same shapes"):
        wider = dataclasses.replace(recipe, backbone_options={"width": 12, "num_features": 16})
        alternate_clusters([images], tmp_path / "new", wider, start=start, **options)
    with pytest.raises(ValueError, match=r"must be a \.keras file"):
        alternate_clusters([images], tmp_path / "new", recipe, start=tmp_path, **options)


def test_more_centres_than_patches_leave_the_folder_as_it_was(images, tmp_path):
    many = dataclasses.replace(TINY, method="kmeans", clustering={"num_clusters": 241})
    with pytest.raises(ValueError, match="at most the number of patches, 240"):
        alternate_clusters([images], tmp_path / "run", many)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="`num_clusters` must be at least 1"):
        dataclasses.replace(TINY, method="kmeans", clustering={"num_clusters": 0})
