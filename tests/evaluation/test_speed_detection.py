"""The figures of detection are rates and their ratios."""

import cv2
import numpy as np
import pytest

from evaluation import speed, speed_detection
from evaluation.speed_detection import Workload, measure
from keras_ctxattr.tasks.detection.proposals import has_selective_search


@pytest.fixture
def workload(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_detection, "_SIZE", (100, 75))
    monkeypatch.setattr(speed_detection, "_NUM_REGIONS", 4)
    generator = np.random.default_rng(0)
    for number in range(3):
        coarse = generator.integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(coarse, (160, 120)))
    return Workload(images=[str(tmp_path)], num_images=2, rounds=1)


@pytest.mark.skipif(not has_selective_search(), reason="OpenCV is here without its contrib modules")
def test_figures_are_rates_and_their_ratio(workload):
    threads = cv2.getNumThreads()
    figures = measure(workload)
    for name in ("proposals_fast", "proposals_quality", "fast_rcnn"):
        found = figures[name]
        assert found["ratio"] == pytest.approx(found["value"] / found["baseline"])
    for mode in ("fast", "quality"):
        boxes = figures[f"proposals_{mode}_boxes"]["value"]
        assert boxes > figures[f"proposals_{mode}"]["value"]
    assert figures["proposals_fast"]["value"] > figures["proposals_quality"]["value"]
    assert cv2.getNumThreads() == threads


def test_without_opencvs_contrib_modules_the_network_alone_is_measured(workload, monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    monkeypatch.setattr(speed_detection, "measure_fast_rcnn", lambda given: {"fast_rcnn": {}})
    assert list(measure(workload)) == ["fast_rcnn"]
    with pytest.raises(ValueError, match="contrib modules"):
        speed.main(speed.Config(only="detection"))
