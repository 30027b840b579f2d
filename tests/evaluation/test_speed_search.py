"""The figures of search compare equal results, whatever the machine."""

import numpy as np
import pytest

from evaluation import speed_search
from evaluation.speed_search import Workload, measure

SMALL = Workload(num_codes=5_000, num_queries=30, count=50, rounds=1)


def test_figures_are_rates_and_their_ratios():
    for figure in measure(SMALL).values():
        assert figure["ratio"] == pytest.approx(figure["value"] / figure["baseline"])
        assert figure["value"] > 0


def test_an_index_that_finds_something_else_has_no_speed(monkeypatch):
    class Careless(speed_search.HammingIndex):
        def search(self, codes, count=10):
            distances, ids = super().search(codes, count)
            return distances, np.roll(ids, 1, axis=1)

    monkeypatch.setattr(speed_search, "HammingIndex", Careless)
    with pytest.raises(RuntimeError, match="must find what faiss finds"):
        measure(SMALL)
