"""The figures of contours are rates and their ratio."""

import cv2
import pytest

from evaluation import speed, speed_contours
from evaluation.speed_contours import Workload, measure
from tests.tasks.contours.drawings import draw_discs
from tests.tasks.contours.test_formats import write_truth


def test_figures_are_rates_and_their_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_contours, "_NUM_WINDOWS", 64)
    images = draw_discs(2, shape=(90, 100))
    (tmp_path / "images/val").mkdir(parents=True)
    for name, pixels, boundaries in zip(
        images.names, images.pixels, images.boundaries, strict=True
    ):
        cv2.imwrite(str(tmp_path / f"images/val/{name}.jpg"), pixels)
        write_truth(tmp_path / f"groundTruth/val/{name}.mat", boundaries)
    figures = measure(Workload(source=str(tmp_path), rounds=1, thresholds=3))
    dense = figures["contours_dense"]
    assert dense["ratio"] == pytest.approx(dense["value"] / dense["baseline"])
    assert dense["ratio"] > 5
    for name in ("contours_transfer", "contours_transfer_2"):
        transfer = figures[name]
        assert transfer["baseline"] == dense["value"]
        assert transfer["ratio"] == pytest.approx(transfer["value"] / transfer["baseline"])
    assert figures["contours_benchmark"]["value"] > 0


def test_the_data_set_is_looked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CTXATTR_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"bsds500_trainval\.tar"):
        speed.main(speed.Config(only="contours"))
