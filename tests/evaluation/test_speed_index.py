"""The figures of indexing say how far it is from decoding and the network alone."""

import cv2
import numpy as np
import pytest

from evaluation.speed_index import Workload, measure


def write_photographs(folder, count):
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), cv2.resize(coarse, (160, 120)))
    return str(folder)


def test_figures_are_rates_and_their_ratio(tmp_path):
    figures = measure(Workload(images=[write_photographs(tmp_path, 20)], rounds=1))
    model, decode = (figures[name]["value"] for name in ("index_model", "index_decode"))
    index = figures["index"]
    assert index["baseline"] == pytest.approx(1 / (1 / model + 1 / decode))
    assert index["ratio"] == pytest.approx(index["value"] / index["baseline"])
    assert 0 < index["baseline"] < min(model, decode)


def test_few_photographs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"more than 16 photographs\. Received: 9"):
        measure(Workload(images=[write_photographs(tmp_path, 9)], rounds=1))
