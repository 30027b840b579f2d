"""`python -m training.finetune_detection` and `evaluation.detection`: from a devkit to figures."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from evaluation import detection
from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.detection.fast_rcnn import FastRcnnRecipe
from keras_ctxattr.tasks.detection.finetuning import METHODS
from keras_ctxattr.tasks.detection.proposals import has_selective_search
from tests.tasks.detection.photographs import draw_photographs
from tests.tasks.detection.voc_layout import write_devkit
from training import finetune_detection
from training.configs import load_recipe
from training.flags import parse_flags

needs_search = pytest.mark.skipif(
    not has_selective_search(), reason="OpenCV lacks selective search: the extra `detection`"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a folder with VOCdevkit and a module."""
    root = tmp_path_factory.mktemp("detection")
    write_devkit(root, draw_photographs(root / "squares", 5))
    keras.utils.set_random_seed(0)
    export_module(compact(width=8, num_features=16), root / "module")
    return root


def parse(place, run, *flags):
    words = ["--data", str(place / "VOCdevkit"), "--backbone", str(place / "module")]
    words += ["--run", str(run), "--proposals", str(place / "proposals"), *flags]
    return parse_flags(finetune_detection.Config, words)


def tiny(monkeypatch, kind=FastRcnnRecipe, **changes):
    """Makes any recipe one of few pixels and steps."""
    small = {"min_side": 96, "max_side": 128, "regions_per_image": 16, "hidden_units": 16}
    chosen = {**small, "optimizer_steps": 3, "dtype_policy": "float32", **changes}

    def load(name, wanted):
        recipe = load_recipe(name, wanted)
        known = {field.name for field in dataclasses.fields(recipe)}
        return dataclasses.replace(
            recipe, **{name: value for name, value in chosen.items() if name in known}
        )

    monkeypatch.setattr(finetune_detection, "load_recipe", load)
    return kind


@needs_search
def test_from_a_devkit_to_figures_and_pictures(place, tmp_path, monkeypatch, capsys):
    tiny(monkeypatch)
    flags = ("--held-out", "0.4", "--fresh", "pca", "--box-regression", "--seed", "4")
    finetune_detection._report(parse(place, tmp_path / "run", *flags))
    line = capsys.readouterr().out
    assert "3 steps on" in line and "mAP" in line
    run = Run.read(tmp_path / "run")
    assert run.config["recipe"]["box_regression"] is True
    assert run.config["start"] == {"transfer": True, "rescale": True, "fresh": "pca"}
    words = ["--run", str(tmp_path / "run"), "--data", str(place / "VOCdevkit")]
    words += ["--out", str(tmp_path / "out"), "--held-out", "0.4", "--num-rows", "1"]
    words += ["--proposals", str(place / "proposals")]
    detection._report(parse_flags(detection.Config, words))
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["map_voc07"] == pytest.approx(run.summary["map_voc07"])
    assert results["data"]["num_images"] == run.summary["num_photographs"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "detections.png",
        "voc",
        "coco.json",
    }


@needs_search
@pytest.mark.parametrize(
    "recipe", ["detection_voc07_context", "detection_voc07_attributes", "detection_voc07_vgg"]
)
def test_the_papers_recipes_run(place, tmp_path, monkeypatch, recipe):
    tiny(monkeypatch, min_side=128, max_side=128)
    flags = ("--recipe", recipe, "--held-out", "0", "--no-rescale")
    summary = finetune_detection.main(parse(place, tmp_path / "run", *flags))
    assert summary["num_photographs"] == summary["num_training_photographs"] == 5
    stored = Run.read(tmp_path / "run").config["recipe"]
    assert (stored["learning_rate"], stored["decay_steps"], stored["clip_norm"]) == (
        0.001,
        30_000,
        None,
    )


@needs_search
def test_the_papers_rcnn_runs(place, tmp_path, monkeypatch):
    small = {"crop_side": 144, "context": 8, "reduced_channels": 16, "crops_per_batch": 8}
    tiny(monkeypatch, **small, images_per_batch=2, max_proposals=20)
    flags = ("--method", "rcnn", "--recipe", "detection_voc07_rcnn", "--no-rescale")
    summary = finetune_detection.main(parse(place, tmp_path / "run", *flags, "--held-out", "0"))
    assert summary["num_photographs"] == 5
    stored = Run.read(tmp_path / "run").config["recipe"]
    assert (stored["fresh_rate"], stored["decay_steps"], stored["svms"]) == (10.0, 20_000, True)


@needs_search
def test_scratch_and_a_test_list_of_its_own(place, tmp_path, monkeypatch):
    tiny(monkeypatch)
    lists = place / "VOCdevkit/VOC2007/ImageSets/Main"
    (lists / "test.txt").write_text("000\n")
    flags = ("--no-transfer", "--no-rescale", "--test-set", "test")
    summary = finetune_detection.main(parse(place, tmp_path / "run", *flags))
    assert (summary["num_training_photographs"], summary["num_photographs"]) == (5, 1)
    assert summary["initialization"] == {}


def test_every_method_has_a_recipe_for_small_machines():
    assert set(finetune_detection.SMALL) == set(METHODS)
    for method, name in finetune_detection.SMALL.items():
        assert isinstance(load_recipe(name, METHODS[method].recipe), METHODS[method].recipe)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--method", "yolo"), "`--method` must be one of fast_rcnn"),
        (("--held-out", "1"), "`--held-out` must be at least 0 and under 1"),
    ],
)
def test_impossible_flags_are_one_line(place, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        parse(place, tmp_path / "run", *flags)
    assert message in capsys.readouterr().err


def test_a_flag_of_another_method_is_refused(place, tmp_path):
    config = parse(place, tmp_path / "run", "--method", "rcnn", "--box-regression")
    with pytest.raises(ValueError, match="`--box-regression` does not belong to rcnn"):
        finetune_detection.main(config)


def test_verdicts_are_drawn_for_what_they_are(place):
    from keras_ctxattr.tasks.detection.formats import Detections

    photographs = draw_photographs(place / "drawn", 2)
    boxes = photographs.boxes[0]
    found = [
        Detections(
            boxes=np.concatenate([boxes[:1], boxes[:1], boxes[1:] + 500]),
            scores=np.array([0.9, 0.8, 0.7]),
            classes=np.array([*photographs.classes[0][[0, 0, 1]]]),
        ),
        Detections(boxes=photographs.boxes[1], scores=np.full(2, 0.1), classes=np.zeros(2)),
    ]
    drawn = detection.draw_verdicts(found, photographs, 0.3)
    assert sorted(drawn[0].kinds) == ["duplicate", "missed", "right", "wrong"]
    assert sorted(drawn[1].kinds) == ["missed", "missed"]
