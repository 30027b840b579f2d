"""The figures of detection are rates and their ratios."""

import cv2
import numpy as np
import pytest

from evaluation import speed, speed_detection
from evaluation.speed_detection import Workload, measure
from keras_ctxattr.tasks.detection.proposals import has_selective_search


@pytest.mark.skipif(not has_selective_search(), reason="OpenCV is here without its contrib modules")
def test_figures_are_rates_and_their_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_detection, "_SIZE", (100, 75))
    threads = cv2.getNumThreads()
    generator = np.random.default_rng(0)
    for number in range(3):
        coarse = generator.integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(coarse, (160, 120)))
    figures = measure(Workload(images=[str(tmp_path)], num_images=2, rounds=1))
    for mode in ("fast", "quality"):
        found = figures[f"proposals_{mode}"]
        assert found["ratio"] == pytest.approx(found["value"] / found["baseline"])
        assert figures[f"proposals_{mode}_boxes"]["value"] > found["value"]
    assert figures["proposals_fast"]["value"] > figures["proposals_quality"]["value"]
    assert cv2.getNumThreads() == threads


def test_all_stages_are_measured_without_opencvs_contrib_modules_too(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    assert speed.STAGES["detection"](speed.Config()) == {}
    with pytest.raises(ValueError, match="contrib modules"):
        speed.main(speed.Config(only="detection"))
