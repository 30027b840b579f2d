"""`python -m training.cluster_features`, as it is typed."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_ctxattr.clustering import ClusterTable
from keras_ctxattr.runs import Run
from tests.clustering.concepts import write_concepts
from training import cluster_features
from training.flags import parse_flags


def parse(images, run, *flags):
    return parse_flags(
        cluster_features.Config, ["--images", str(images), "--run", str(run), *flags]
    )


def test_flags_reach_the_run_and_it_ends_with_a_line(tmp_path, capsys):
    images = write_concepts(tmp_path / "images", num_images=120)
    flags = ["--samples-per-cluster", "5", "--svm-c", "0.02", "--growths", "2"]
    config = parse(images, tmp_path / "run", "--rounds", "0", "--seed", "4", *flags)
    cluster_features._report(config)
    assert "clusters with" in capsys.readouterr().out
    run = Run.read(tmp_path / "run")
    assert run.finished and run.config["seed"] == 4
    assert run.config["recipe"]["clustering"] == {
        "C": 0.02,
        "normalize": True,
        "num_growths": 2,
        "samples_per_cluster": 5,
    }
    cluster_features._report(config)  # finished: the same line again
    assert "from round 0. Finished" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "backbone"), [(32, "small"), (45, "small"), (96, "compact")])
def test_network_follows_the_size_of_the_patches(tmp_path, monkeypatch, size, backbone):
    from keras_ctxattr import clustering

    given = []
    monkeypatch.setattr(
        clustering, "alternate_clusters", lambda *a, **o: given.append(a[2]), raising=False
    )
    cluster_features.main(parse("photos", tmp_path, "--size", str(size)))
    assert (given[0].size, given[0].backbone) == (size, backbone)


def test_seeding_reaches_the_clustering_and_another_is_refused_before_the_work(
    tmp_path, monkeypatch
):
    from keras_ctxattr import clustering

    given = []
    monkeypatch.setattr(
        clustering, "alternate_clusters", lambda *a, **o: given.append(a[2]), raising=False
    )
    cluster_features.main(parse("photos", tmp_path, "--seeding", "minibatch"))
    assert given[0].make_clustering(0).seeding == "minibatch"
    with pytest.raises(ValueError, match="`seeding` must be one of auto, full, minibatch"):
        cluster_features.main(parse("photos", tmp_path, "--seeding", "some"))
    assert len(given) == 1


KILL = """
import os, sys
from keras_ctxattr.clustering import discriminative
from training import cluster_features
from training.flags import parse_flags

real = discriminative.merge_members
def kill(*arguments, **options):
    real(*arguments, **options)  # at work, and not yet kept
    os.kill(os.getpid(), 9)
discriminative.merge_members = kill
cluster_features.main(parse_flags(cluster_features.Config, sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_clustering_that_was_killed_costs_one_stage_and_no_bit(tmp_path):
    images = write_concepts(tmp_path / "images", num_images=240)
    flags = ["--samples-per-cluster", "4", "--rounds", "0"]
    arguments = ["--images", str(images), "--run", str(tmp_path / "killed"), *flags]
    done = subprocess.run([sys.executable, "-c", KILL, *arguments], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    stages = tmp_path / "killed" / "rounds" / "0" / "clustering"
    kept = sorted(path.stem for path in stages.glob("*.npz"))
    assert kept == ["seeds", *(f"training-{number:02d}" for number in range(4))]
    for name in ("killed", "whole"):
        command = [sys.executable, "-m", "training.cluster_features", "--images", str(images)]
        command += ["--run", str(tmp_path / name), *flags]
        subprocess.run(command, timeout=300, check=True)
    assert not stages.exists()
    killed, whole = (
        ClusterTable.open(tmp_path / name / "rounds" / "0" / "clusters")
        for name in ("killed", "whole")
    )
    np.testing.assert_array_equal(killed.labels, whole.labels)
    np.testing.assert_array_equal(killed.classifiers, whole.classifiers)
    assert killed.num_clusters > 0


def test_without_flags_it_is_the_recipes_clustering(tmp_path, monkeypatch):
    """The command once kept a clustering of its own when the recipe's was changed."""
    from keras_ctxattr import clustering

    given = []
    monkeypatch.setattr(
        clustering, "alternate_clusters", lambda *a, **o: given.append(a[2]), raising=False
    )
    cluster_features.main(parse("photos", tmp_path))
    assert given == [clustering.AlternationRecipe()]
