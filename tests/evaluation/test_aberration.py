import json

import cv2
import pytest

from evaluation import aberration


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    settings = aberration.PositionConfig

    def smaller(**given):
        return settings(**{"images_per_batch": 2, "patches_per_image": 4, **given})

    monkeypatch.setattr(aberration, "PositionConfig", smaller)


def test_three_guards_are_compared(sources, tmp_path):
    config = aberration.Config(
        images=sources, out=tmp_path, steps=2, patches_per_image=4, held_out=0.2
    )
    results = aberration.main(config)
    for guard in ("none", "project", "drop"):
        values = results[guard]
        assert values["ratio"] == pytest.approx(values["rmse"] / values["rmse_centre"])
        assert values["rmse_best10"] <= values["rmse"]
        assert values["steps"] == 2
    assert results["none"]["rmse_centre"] == results["drop"]["rmse_centre"]
    assert json.loads((tmp_path / "results.json").read_text())["strength"] == 2.0
    assert cv2.imread(str(tmp_path / "aberration.png")) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 1, "steps": 1}, "not both"),
        ({"steps": 0}, "--steps"),
        ({"minutes": -1.0}, "--minutes"),
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"patches_per_image": 0}, "--patches-per-image"),
    ],
)
def test_bad_values_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        aberration.Config(images=["x"], out=tmp_path, **change)
