"""The figures of mining are rates, memory and their ratios."""

import numpy as np
import pytest

from evaluation import speed, speed_mining
from evaluation.memory import watch_memory
from evaluation.speed_mining import Workload, measure
from keras_ctxattr.backbones import compact
from tests.tasks.mining.making import plant_things, random_features


def test_figures_are_rates_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(
        speed_mining, "alexnet", lambda num_features: compact(width=8, num_features=16)
    )
    plant_things(tmp_path / "photos", 3, 1)
    figures = measure(
        Workload(images=[str(tmp_path / "photos")], num_images=(20,), constellations=8, rounds=1)
    )
    describe = figures["mining_describe"]
    assert describe["ratio"] == pytest.approx(describe["value"] / describe["baseline"])
    assert describe["ratio"] > 1
    assert figures["mining_exact_20"]["ratio"] == 1
    quick = figures["mining_quantised_20"]
    assert quick["baseline"] == figures["mining_exact_20"]["value"] > 0
    assert quick["ratio"] == pytest.approx(quick["value"] / quick["baseline"])
    assert figures["mining_index_20"]["value"] > 0
    assert figures["mining_exact_20_memory"]["baseline"] > 0


def test_crops_keep_patches_side_by_side():
    features = random_features(2)
    generator = np.random.default_rng(0)
    sizes = set()
    for _ in range(50):
        rows = speed_mining._crop(features, 1, generator) - 15
        boxes = features.boxes_of(1)[rows]
        area = np.prod((boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)) / 32 - 1)
        assert len(rows) == round(float(area))  # all patches of a rectangle
        sizes.add(len(rows))
    assert len(sizes) > 1


def test_memory_that_is_taken_is_seen():
    for _ in range(2):  # the second time too, when the memory of the first is free
        seconds, megabytes = watch_memory(lambda: np.ones(40_000_000).sum())
        assert seconds > 0
        assert megabytes > 200


def test_the_stage_is_known():
    assert "mining" in speed.STAGES
