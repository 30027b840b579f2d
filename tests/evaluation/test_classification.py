"""`python -m evaluation.classification`: whole workflows on small photographs, and bad input."""

import json
import re
import tarfile

import cv2
import keras
import numpy as np
import pytest

from evaluation import classification
from keras_ctxattr.backbones import small
from keras_ctxattr.export import export_module
from tests.data.test_stl10 import write_stl10
from training.flags import parse_flags

CLASSES = {"ant": (200, 30, 30), "bee": (30, 200, 30), "cat": (30, 30, 200)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a folder with photographs of three colours, 8 of each, and a module."""
    root = tmp_path_factory.mktemp("classes")
    generator = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (root / "photos" / name).mkdir(parents=True)
        for number in range(8):
            noise = generator.integers(-30, 30, (40, 56, 3))
            picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            cv2.circle(picture, (20 + number, 20), 8, (255 - np.array(colour)).tolist(), -1)
            cv2.imwrite(str(root / "photos" / name / f"{number}.png"), picture)
    (root / "photos" / "BACKGROUND_Google").mkdir()
    cv2.imwrite(str(root / "photos/BACKGROUND_Google/0.png"), picture[::-1])
    keras.utils.set_random_seed(0)
    export_module(small(width=8, num_features=16), root / "module")
    return root


def parse(place, out, *flags, protocol="caltech101-mini"):
    words = ["--images", str(place / "photos"), "--out", str(out), "--protocol", protocol]
    return parse_flags(classification.Config, [*words, *flags])


def test_every_layer_is_classified_beside_fresh_weights_and_hog(place, tmp_path, capsys):
    flags = ["--module", str(place / "module"), "--features", "hog", "--draws", "2"]
    flags += ["--side", "48"]
    results = classification.main(parse(place, tmp_path / "out", *flags))
    names = [row["layer"] or row["network"] for row in results["rows"]]
    layers = ["conv1_relu", "conv2_relu", "conv3_relu", "fc6_relu", "all layers"]
    assert names == ["hog", "hog pooled", *layers]
    sizes = [row["num_features"] for row in results["rows"]]
    assert sizes[1] == 21 * 36 and sizes[-1] == sum(sizes[2:-1])
    assert results["num_classes"] == 3 and results["chance"] == pytest.approx(1 / 3)
    assert (results["num_train"], results["num_test"]) == (15, 9)
    for row in results["rows"]:
        for kind in ("learnt", "untrained") if row["layer"] else ("learnt",):
            assert list(row[kind]["accuracy"]) == ["svm", "svm_cv", "probe", "knn"]
            assert list(row[kind]["low_shot"]) == ["1", "2", "4"]
            assert len(row[kind]["chosen_penalties"]) == 2
            assert all(len(one["draws"]) == 2 for one in row[kind]["accuracy"].values())
        if row["layer"]:
            one, other = row["learnt"]["accuracy"]["svm"], row["untrained"]["accuracy"]["svm"]
            assert row["gain"]["svm"]["mean"] == pytest.approx(one["mean"] - other["mean"])
    # Colours are told apart by any weights of the first layer.
    first = next(row for row in results["rows"] if row["layer"] == "conv1_relu")
    assert first["learnt"]["accuracy"]["svm_cv"]["mean"] > 0.8
    assert "caltech101-mini: 2 draws of 5 photographs" in results["protocol"]
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    assert cv2.imread(str(tmp_path / "out/low_shot.png")).shape[1] == 640
    classification.report(results)
    printed = capsys.readouterr().out
    assert "conv1_relu" in printed and "±" in printed


def test_an_archive_and_its_folder_are_drawn_alike(place, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(place / "photos", "photos")
    flags = ["--features", "hog", "--draws", "2", "--side", "48"]
    one = classification.main(parse(place, tmp_path / "one", *flags))
    config = parse(place, tmp_path / "two", *flags, "--images", str(tmp_path / "photos.tar"))
    other = classification.main(config)
    assert one["rows"] == other["rows"]


def test_rows_do_not_depend_on_what_else_is_compared(place, tmp_path, capsys):
    flags = ["--draws", "1", "--side", "48", "--classifiers", "svm,knn", "--no-untrained"]
    module = ["--module", str(place / "module")]
    both = classification.main(parse(place, tmp_path / "a", *flags, *module, "--features", "hog"))
    one = classification.main(parse(place, tmp_path / "b", *flags, *module, "--layer", "fc6_relu"))
    (alone,) = one["rows"]
    assert alone["learnt"]["accuracy"]["svm"]["std"] is None
    classification.report(one)  # one draw has no spread
    assert "±" not in capsys.readouterr().out
    same = both["rows"][-2]
    assert same["layer"] == "fc6_relu" and "untrained" not in same
    for name in ("svm", "knn"):
        assert alone["learnt"]["accuracy"][name] == same["learnt"]["accuracy"][name]


def test_stl10_goes_through_its_folds(place, tmp_path):
    write_stl10(
        tmp_path / "stl10_binary",
        train_labels=(1, 2, 3) * 4,
        test_labels=(3, 2, 1, 1),
        folds=("0 1 2 3 4 5", "6 7 8 9 10 11", "0 1 2 9 10 11"),
    )
    flags = ["--module", str(place / "module"), "--draws", "3", "--layer", "conv1_relu"]
    config = parse(place, tmp_path / "out", *flags, "--images", str(tmp_path), protocol="stl10")
    results = classification.main(config)
    (row,) = results["rows"]
    assert row["num_features"] == 4 * 8  # quadrants
    assert (results["num_train"], results["num_test"], results["num_draws"]) == (6, 4, 3)
    assert list(row["learnt"]["low_shot"]) == ["1", "2"]
    # Each class has stripes of its own in these files.
    assert row["learnt"]["accuracy"]["svm_cv"]["mean"] == 1
    assert "3 predefined folds, all test images; 96 x 96 pixels" in results["protocol"]
    flags = [*flags, "--images", str(tmp_path), "--draws", "4"]
    config = parse(place, tmp_path / "other", *flags, protocol="stl10")
    with pytest.raises(ValueError, match=r"at most the number of folds. Received: 4 of 3"):
        classification.main(config)


@pytest.mark.parametrize(
    ("flags", "protocol", "told"),
    [
        ([], "folders", "Give `--module` or `--features`"),
        (["--features", "sift"], "folders", "`--features` must be of hog. Received: sift"),
        (["--features", "hog"], "caltech256", "`--protocol` must be of stl10, .*: caltech256"),
        (["--features", "hog", "--classifiers", "svm,tree"], "folders", "Received: tree"),
        (["--features", "hog", "--scaling", "none"], "folders", "`--scaling` must be of length"),
        (["--features", "hog", "--pool", "mean"], "folders", "`--pool` must be of whole"),
        (["--features", "hog", "--draws", "0"], "folders", "`--draws` must be .* over 0"),
        (["--features", "hog", "--seed", "-1"], "folders", "`--seed` must be between"),
        (["--module", "a", "--module", "a"], "folders", "Each `--module` must be another"),
        (
            ["--features", "hog", "--train-per-class", "3"],
            "caltech101",
            "belong to `--protocol folders`. Received: --protocol caltech101",
        ),
        (["--features", "hog", "--side", "64"], "stl10", "`--protocol stl10` has labels"),
    ],
)
def test_bad_flags_are_one_line(place, tmp_path, capsys, flags, protocol, told):
    with pytest.raises(SystemExit) as caught:
        parse(place, tmp_path / "out", *flags, protocol=protocol)
    lines = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(lines) == 1
    assert re.search(told, lines[0])


@pytest.mark.parametrize(
    ("flags", "protocol", "told"),
    [
        (["--features", "hog"], "caltech101", "at least 31 photographs.*ant with 8, and 2 more"),
        (["--features", "hog"], "folders", "at least 31 photographs"),
        (["--features", "hog"], "stl10", "must be all there. Received: .* without class_names.txt"),
        (["--module", "nowhere"], "caltech101-mini", "A network must be a module.*nowhere"),
        (["--module", "untrained:nothing"], "caltech101-mini", "must be one of alexnet"),
        (["--features", "hog", "--layer", "x"], "caltech101-mini", "`--layer` must be of a module"),
        (["--features", "hog", "--side", "1"], "caltech101-mini", "`--side` must hold two cells"),
        (
            ["--module", "untrained:small", "--layer", "conv9"],
            "caltech101-mini",
            "`--layer` must be of all layers, conv1_relu, .*. Received: conv9",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place, tmp_path, flags, protocol, told):
    with pytest.raises(ValueError, match=told) as caught:
        classification.main(parse(place, tmp_path / "out", *flags, protocol=protocol))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_one_class_is_refused(place, tmp_path):
    flags = ["--features", "hog", "--images", str(place / "photos/ant")]
    with pytest.raises(ValueError, match="at least 2 classes"):
        classification.main(parse(place, tmp_path / "out", *flags))
    both = tmp_path / "both"
    (both / "ant").mkdir(parents=True)
    (both / "BACKGROUND_Google").mkdir()
    for name in ("ant/0.png", "BACKGROUND_Google/0.png"):
        (both / name).write_bytes((place / "photos" / name).read_bytes())
    with pytest.raises(ValueError, match="at least 2 classes beside those left out"):
        classification.main(parse(place, tmp_path / "out", *flags[:2], "--images", str(both)))


def test_names_are_as_short_as_they_can_be():
    assert classification.short_names(["runs/a", "runs/b"]) == {"runs/a": "a", "runs/b": "b"}
    paths = ["runs/attr16/module", "runs/attr32/module"]
    assert list(classification.short_names(paths).values()) == ["attr16/module", "attr32/module"]
    assert list(classification.short_names(["runs/x/module"]).values()) == ["x/module"]


@pytest.mark.data
def test_hog_tells_real_classes_apart(data_folder, tmp_path):
    archive = data_folder / "caltech101_mini_train.tar"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    flags = ["--images", str(archive), "--out", str(tmp_path), "--protocol", "caltech101-mini"]
    flags += ["--features", "hog", "--draws", "1", "--classifiers", "knn"]
    results = classification.main(parse_flags(classification.Config, flags))
    assert (results["num_classes"], results["num_train"], results["num_test"]) == (101, 505, 303)
    for row in results["rows"]:
        assert row["learnt"]["accuracy"]["knn"]["mean"] > 0.2
