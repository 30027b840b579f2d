"""`training.learn_contours` and `evaluation.contours --run`: from a data set to figures."""

import dataclasses
import json

import cv2
import pytest

from evaluation import contours
from keras_ctxattr.runs import Run, RunError
from tests.tasks.contours.drawings import draw_discs
from tests.tasks.contours.test_formats import write_truth
from training import cluster_features, learn_attributes, learn_contours
from training.configs import load_recipe
from training.flags import parse_flags


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a data set of three photographs to learn from and two to score."""
    root = tmp_path_factory.mktemp("contours")
    for split, count in (("train", 3), ("val", 2)):
        images = draw_discs(count, seed=count)
        (root / f"BSDS500/images/{split}").mkdir(parents=True)
        for name, pixels, boundaries in zip(
            images.names, images.pixels, images.boundaries, strict=True
        ):
            path = root / f"BSDS500/images/{split}/{split}{name}.jpg"
            cv2.imwrite(str(path), pixels[..., ::-1])
            write_truth(root / f"BSDS500/groundTruth/{split}/{split}{name}.mat", boundaries)
    return root


def test_from_a_data_set_to_figures(place, tmp_path, monkeypatch, capsys):
    small = {"widths": (6, 8, 8, 8), "hidden_units": 8, "positions": 8, "crops_per_batch": 3}
    settings = {**small, "dropout": 0.0, "learning_rate": 0.01, "dtype_policy": "float32"}
    monkeypatch.setattr(
        learn_contours,
        "load_recipe",
        lambda name, kind: dataclasses.replace(load_recipe(name, kind), **settings),
    )
    words = ["--images", str(place / "BSDS500"), "--split", "train", "--steps", "60"]
    config = parse_flags(learn_contours.Config, [*words, "--run", str(tmp_path / "run")])
    learn_contours._report(config)
    assert "60 steps on 3 photographs" in capsys.readouterr().out
    assert Run.read(tmp_path / "run").config["images"] == ["train0", "train1", "train2"]
    words = ["--run", str(tmp_path / "run"), "--gt", str(place / "BSDS500"), "--split", "val"]
    words += ["--out", str(tmp_path / "out"), "--processes", "1", "--thresholds", "9"]
    contours.main(parse_flags(contours.Config, [*words, "--max-distance", "0.02"]))
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [one["name"] for one in results["images"]] == ["val0", "val1"]
    assert results["ods"]["f"] > 0.3
    assert (tmp_path / "out/maps/val1.png").exists()
    words[:2] = ["--module", str(tmp_path / "run/module")]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    contours.main(parse_flags(contours.Config, [*words, "--max-distance", "0.02"]))
    again = json.loads((tmp_path / "again/results.json").read_text())
    assert again["ods"] == results["ods"]
    with pytest.raises(ValueError, match=r"`--map patches` needs.*run/module"):
        contours.main(parse_flags(contours.Config, [*words, "--map", "patches"]))


def test_from_clusters_of_contours_to_patch_wise_maps(place, tmp_path, monkeypatch, capsys):
    """The whole way of attributes: clusters, bits, edges, edges with bits, maps from patches."""
    source = ["--images", str(place / "BSDS500"), "--split", "train"]
    words = ["--unit", "contour", "--size", "45", "--features", "daisy", "--num-patches", "240"]
    words += ["--method", "kmeans", "--num-clusters", "6", "--copies", "1", "--rounds", "1"]
    run = ["--run", str(tmp_path / "clusters")]
    clusters = cluster_features.main(parse_flags(cluster_features.Config, [*source, *words, *run]))
    assert clusters["num_patches"] == 240
    words = ["--clusters", str(tmp_path / "clusters"), "--round", "1", "--bits", "8"]
    words += ["--recipe", "attributes_contours", "--passes", "1"]
    run = ["--run", str(tmp_path / "attributes")]
    learn_attributes.main(parse_flags(learn_attributes.Config, [*words, *run]))

    small = {"widths": (6, 8, 8, 8), "hidden_units": 8, "positions": 8, "crops_per_batch": 3}
    monkeypatch.setattr(
        learn_contours,
        "load_recipe",
        lambda name, kind: dataclasses.replace(load_recipe(name, kind), **small),
    )
    edges = [*source, "--steps", "5", "--run", str(tmp_path / "edges")]
    learn_contours.main(parse_flags(learn_contours.Config, edges))
    kinds = [*source, "--steps", "5", "--start", str(tmp_path / "edges")]
    kinds += ["--attributes", str(tmp_path / "attributes"), "--run", str(tmp_path / "kinds")]
    learn_contours._report(parse_flags(learn_contours.Config, kinds))
    assert "of the bits of 8 attributes" in capsys.readouterr().out

    words = ["--run", str(tmp_path / "kinds"), "--gt", str(place / "BSDS500"), "--split", "val"]
    words += ["--map", "patches", "--stride", "2", "--processes", "1", "--thresholds", "9"]
    run = ["--out", str(tmp_path / "out")]
    results = contours.main(parse_flags(contours.Config, [*words, *run]))
    assert 0 < results["ods"]["f"] <= 1


def test_attributes_that_are_not_there_are_told(place, tmp_path):
    attributes = tmp_path / "attributes"
    words = ["--images", str(place / "BSDS500"), "--run", str(tmp_path / "run")]
    config = parse_flags(learn_contours.Config, [*words, "--attributes", str(attributes)])
    with pytest.raises(RunError, match="attributes"):
        learn_contours.main(config)


def test_a_recipe_of_another_kind_is_refused(place, tmp_path):
    words = ["--images", str(place / "BSDS500"), "--run", str(tmp_path / "run")]
    config = parse_flags(learn_contours.Config, [*words, "--recipe", "paper"])
    with pytest.raises(
        ValueError,
        match=r"`--recipe` must be one of contours_attributes, contours_paper, contours_small",
    ):
        learn_contours.main(config)
