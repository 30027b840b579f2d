"""`python -m evaluation.box_probe`: objects' boxes named from every layer."""

import keras
import numpy as np
import pytest

from evaluation import box_probe
from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from tests.tasks.detection.photographs import draw_photographs
from tests.tasks.detection.voc_layout import write_devkit
from training.flags import parse_flags


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Gives a folder with VOCdevkit, of red and blue squares, and a module."""
    root = tmp_path_factory.mktemp("probe")
    write_devkit(root, draw_photographs(root / "squares", 16))
    keras.utils.set_random_seed(0)
    export_module(compact(width=8, num_features=16), root / "module")
    return root


def parse(place, out, *flags):
    words = ["--data", str(place / "VOCdevkit"), "--backbone", str(place / "module")]
    return parse_flags(box_probe.Config, [*words, "--out", str(out), "--num-splits", "2", *flags])


def test_every_layer_is_probed_and_colours_are_told_apart(place, tmp_path, capsys):
    results = box_probe.main(parse(place, tmp_path / "out"))
    assert list(results["layers"]) == ["conv1_relu", "conv2_relu", "conv3_relu", "conv4_relu"]
    for one in results["layers"].values():
        assert all(-1 <= value <= 1 for value in one.values()) and len(one) == 6
        difference = one["trained_mean"] - one["untrained_mean"]
        assert one["gain_mean"] == pytest.approx(difference)
    # Red or blue can be read from the colours of the first layers, whatever their weights.
    assert results["layers"]["conv1_relu"]["trained_mean"] > results["chance"]["share_mean"] + 0.2
    assert (tmp_path / "out/box_probe.png").exists()
    box_probe.report(results)
    assert "conv1_relu" in capsys.readouterr().out


def test_photographs_are_divided_whole(place):
    photographs = box_probe.read_photographs([str(place / "VOCdevkit")], "trainval")
    is_first = box_probe.divide_boxes(photographs, 3)
    owners = np.repeat(np.arange(16), 2)
    for number in range(16):
        assert len(set(is_first[owners == number])) == 1
    assert is_first.sum() == 16
    assert not np.array_equal(is_first, box_probe.divide_boxes(photographs, 4))


def test_a_network_without_layers_is_refused(place, tmp_path):
    (place / "module/network.json").rename(place / "network.json.away")
    try:
        with pytest.raises(ValueError, match="`--backbone` must be a network whose layers"):
            box_probe.main(parse(place, tmp_path / "out"))
    finally:
        (place / "network.json.away").rename(place / "module/network.json")
