"""`python -m training.learn_attributes`: flags reach the run, from clusters to a module."""

import numpy as np
import pytest

from keras_ctxattr.clustering import alternate_clusters
from keras_ctxattr.export import read_module
from keras_ctxattr.runs import Run, RunError
from tests.clustering.concepts import TINY, write_concepts
from training import learn_attributes
from training.flags import parse_flags


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    root = tmp_path_factory.mktemp("clusters")
    alternate_clusters([write_concepts(root / "images")], root / "run", TINY, rounds=1, seed=3)
    return root / "run"


def parse(clusters, run, *flags):
    words = ["--clusters", str(clusters), "--run", str(run), *flags]
    return parse_flags(learn_attributes.Config, words)


def test_flags_reach_the_run_and_it_ends_with_a_line(clusters, tmp_path, capsys):
    flags = ["--bits", "8", "--alpha", "0.5", "--contrast-size", "0", "--passes", "1"]
    config = parse(clusters, tmp_path / "run", *flags, "--seed", "4", "--round", "1")
    learn_attributes._report(config)
    assert "8 attributes of" in capsys.readouterr().out
    run = Run.read(tmp_path / "run")
    recipe = run.config["recipe"]
    assert run.finished and run.config["seed"] == 4 and run.config["source"]["round"] == 1
    assert (recipe["num_attributes"], recipe["alpha"], recipe["passes"]) == (8, 0.5, 1)
    assert recipe["contrast_size"] is None and recipe["beta"] == 0.1
    assert np.load(tmp_path / "run/codes.npy").shape == (240, 1)
    assert (tmp_path / "run/module/saved_model.pb").is_file()


def test_round_0_gives_a_projection_of_its_features(clusters, tmp_path):
    config = parse(clusters, tmp_path / "run", "--round", "0", "--bits", "8", "--passes", "1")
    summary = learn_attributes.main(config)
    assert len(summary["bits"]["shares"]) == 8
    assert not (tmp_path / "run/module").exists()


def test_the_papers_recipe_is_one_of_its_own(clusters, tmp_path):
    config = parse(clusters, tmp_path / "run", "--recipe", "attributes_paper", "--passes", "1")
    learn_attributes.main(config)
    recipe = Run.read(tmp_path / "run").config["recipe"]
    assert (recipe["alpha"], recipe["beta"], recipe["contrast_size"]) == (1.0, 1.0, None)


def test_what_is_no_run_of_clusters_is_refused(clusters, tmp_path):
    with pytest.raises(RunError):
        learn_attributes.main(parse(tmp_path, tmp_path / "run"))
    with pytest.raises(ValueError, match="must be 0 to 1"):
        learn_attributes.main(parse(clusters, tmp_path / "run", "--round", "7"))
    with pytest.raises(ValueError, match="--recipe"):
        learn_attributes.main(parse(clusters, tmp_path / "run", "--recipe", "small_photos"))
    assert not (tmp_path / "run").exists()


def test_neighbours_by_first_features_stand_in_for_clusters(clusters, tmp_path, capsys):
    flags = ["--bits", "8", "--passes", "1", "--neighbours", "3"]
    learn_attributes._report(parse(clusters, tmp_path / "run", *flags))
    assert "8 attributes of neighbours" in capsys.readouterr().out
    assert Run.read(tmp_path / "run").config["source"]["neighbours"] == 3
    with pytest.raises(ValueError, match="less than the number of patches"):
        learn_attributes.main(parse(clusters, tmp_path / "other", "--neighbours", "240"))
    with pytest.raises(SystemExit):
        parse(clusters, tmp_path / "other", "--neighbours", "0")
    assert "`--neighbours` must be at least 1" in capsys.readouterr().err


def test_neighbours_are_the_nearest_others():
    vectors = np.array([[0.0], [1.0], [3.0], [7.0]])
    found = learn_attributes._find_neighbours(vectors, 2)
    np.testing.assert_array_equal(found, [[1, 2], [0, 2], [1, 0], [2, 1]])


def test_whole_photographs_have_codes_by_the_network_of_a_round(clusters, tmp_path, capsys):
    flags = ["--unit", "image", "--bits", "8", "--round", "1"]
    learn_attributes._report(parse(clusters, tmp_path / "run", *flags))
    shown = capsys.readouterr()
    assert "8 attributes of 240 photographs" in shown.out
    assert "240 of 240 photographs described" in shown.err
    assert read_module(tmp_path / "run/module")["attributes"]["unit"] == "image"
    learn_attributes.main(parse(clusters, tmp_path / "other", *flags, "--untrained"))
    codes = [np.load(tmp_path / name / "codes.npy") for name in ("run", "other")]
    assert not np.array_equal(*codes)
    with pytest.raises(ValueError, match="needs a network"):
        learn_attributes.main(parse(clusters, tmp_path / "none", "--unit", "image", "--round", "0"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--unit", "photo"], "`--unit` must be one of"),
        (["--untrained"], "`--untrained` belongs to"),
        (["--unit", "image", "--neighbours", "3"], "`--neighbours` belongs to"),
    ],
)
def test_flags_that_do_not_fit_are_refused(clusters, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        parse(clusters, tmp_path / "run", *flags)
    assert message in capsys.readouterr().err
