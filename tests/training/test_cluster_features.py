"""`python -m training.cluster_features`, as it is typed."""

import pytest

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


def test_without_flags_it_is_the_recipes_clustering(tmp_path, monkeypatch):
    """The command once kept a clustering of its own when the recipe's was changed."""
    from keras_ctxattr import clustering

    given = []
    monkeypatch.setattr(
        clustering, "alternate_clusters", lambda *a, **o: given.append(a[2]), raising=False
    )
    cluster_features.main(parse("photos", tmp_path))
    assert given == [clustering.AlternationRecipe()]
