"""`python -m evaluation.mining`, and `ctxattr mine`: a thing planted in photographs."""

import json
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from evaluation import mining
from keras_ctxattr import cli
from keras_ctxattr.backbones import compact, small
from keras_ctxattr.export import export_module
from tests.tasks.mining.making import plant_things
from training.flags import parse_flags


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a folder with photographs in two folders, the thing in one's, and a module."""
    root = tmp_path_factory.mktemp("mining")
    plant_things(root / "photos/with", 4, 4)
    plant_things(root / "photos/without", 4, 0)
    # Files of equal bytes are left out: the noise differs from the others'.
    for number, path in enumerate(sorted((root / "photos/without").iterdir())):
        draw_noise(path, 100 + number)
    keras.utils.set_random_seed(0)
    export_module(compact(width=8, num_features=16), root / "module")
    return root


def draw_noise(path, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 30, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (480, 384)))


def parse(place, out, *flags):
    words = ["--images", str(place / "photos"), "--module", str(place / "module")]
    words += ["--constellations", "60", "--depth", "5", "--num-pixels", "90000"]
    return parse_flags(mining.Config, [*words, "--out", str(out), *flags])


def test_all_kinds_of_features_are_compared(place, tmp_path, capsys):
    flags = ["--labels", "folders", "--set-size", "2", "--num-sets", "8"]
    mining.report(parse(place, tmp_path / "out", *flags))
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert list(results["rows"]) == ["module", "module, untrained", "HOG"]
    for row in results["rows"].values():
        assert 0 <= row["verified_by_chance"] <= 5 and 0 <= row["verified"] <= 5
        assert row["search"] == "exact" and row["seconds"] > 0
        assert row["bytes_per_image"] == pytest.approx(
            row["patches_per_image"] * 2 * min(256, 900 if row is results["rows"]["HOG"] else 16)
        )
    gain = results["gains"]["module - module, untrained"]["mean"]
    verified = [results["rows"][name]["verified"] for name in ("module", "module, untrained")]
    assert gain == pytest.approx(verified[0] - verified[1])
    curves = results["purity_coverage"]
    assert set(curves) == {
        "module",
        "module, untrained",
        "HOG",
        mining.HOG_KMEANS,
        mining.WORDS,
        mining.RANDOM,
    }
    for curve in curves.values():
        assert 0 <= curve["area_to_half"] <= curve["area"] <= 1
    assert curves[mining.RANDOM]["num_sets"] == 8
    # Only the folder "with" has the thing: gradients find it.
    assert results["rows"]["HOG"]["verified"] > results["rows"]["HOG"]["verified_by_chance"]
    for name in ("purity_coverage.png", "module/index.html", "module/objects.json"):
        assert (tmp_path / "out" / name).is_file()
    printed = capsys.readouterr().out
    assert "verified of 5" in printed and "visual words" in printed


def test_the_same_command_again_takes_the_features(place, tmp_path):
    config = parse(place, tmp_path / "out", "--untrained", "0")
    first = mining.main(config)
    shards = sorted((tmp_path / "out/features").glob("*/0*/vectors.npy"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    again = mining.main(config)
    assert len(shards) == 2 and [shard.stat().st_mtime_ns for shard in shards] == times
    for name in first["rows"]:
        assert again["rows"][name]["verified"] == first["rows"][name]["verified"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--depth", "0"], "`depth` must be at least 1. Received: 0"),
        (["--search", "fast"], "`search` must be one of"),
        (["--untrained", "-1"], "`--untrained` must be at least 0"),
        (["--whitening", "2"], "`whitening` must be 0 to .5. Received: 2.0"),
        (["--labels", "folders"], "`--set-size` must be at most `--depth`"),
    ],
)
def test_bad_flags_are_one_line(place, tmp_path, flags, message, capsys):
    with pytest.raises(SystemExit):
        parse(place, tmp_path / "out", *flags)
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--set-size", "99", "--depth", "100"],
            "`--set-size` must be at most the number of images, 8",
        ),
        (["--set-size", "2", "--labels", "nowhere.csv"], "Labels must be `folders` or a CSV"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_the_work(place, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message) as caught:
        mining.main(parse(place, tmp_path / "out", "--labels", "folders", *flags))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_modules_of_other_patches_are_refused(place, tmp_path):
    keras.utils.set_random_seed(0)
    export_module(compact(input_size=64, width=8, num_features=16), tmp_path / "other")
    with pytest.raises(ValueError, match="patches of one size"):
        mining.main(parse(place, tmp_path / "out", "--module", str(tmp_path / "other")))


def test_a_module_of_small_patches_is_mined_and_has_its_page(place, tmp_path):
    keras.utils.set_random_seed(0)
    export_module(small(width=4, num_features=8), tmp_path / "untrained_small")
    words = ["--images", str(place / "photos"), "--module", str(tmp_path / "untrained_small")]
    words += ["--constellations", "20", "--depth", "3", "--num-pixels", "20000"]
    results = mining.main(parse_flags(mining.Config, [*words, "--out", str(tmp_path / "out")]))
    assert len(results["gains"]) == 2  # of the same constellations
    assert (tmp_path / "out/untrained_small/index.html").is_file()


def test_other_constellations_are_not_paired():
    first = SimpleNamespace(
        images=np.arange(3), patches=np.arange(12).reshape(3, 4), counts=np.array([1, 2, 3])
    )
    moved = SimpleNamespace(**{**vars(first), "patches": first.patches + 1})
    gains = mining._compare({"a": first, "b": moved, "c": first})
    assert gains == {"a - c": {"mean": 0.0, "standard_error": 0.0}}


def test_the_command_writes_a_page(place, tmp_path):
    words = ["mine", str(place / "photos"), "--module", str(place / "module")]
    words += ["--out", str(tmp_path / "out"), "--constellations", "60", "--depth", "5"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "objects from 8 photographs" in result.output
    assert (tmp_path / "out/index.html").is_file()
    result = CliRunner().invoke(cli.app, [*words[:-4], "--depth", "0"])
    assert result.exit_code == 2
