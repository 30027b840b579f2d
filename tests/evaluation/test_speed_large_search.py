"""The figures of search at size, of few codes."""

import numpy as np
import pytest

from evaluation import large_search_memory
from evaluation.speed_large_search import Workload, draw_codes, measure

SMALL = Workload(num_codes=20_000, num_singles=4, num_queries=40, num_shards=2, probes=(1, 16, 999))


@pytest.mark.slow
def test_figures_are_of_all_kinds_and_their_ratios():
    figures = measure(SMALL)
    for figure in figures.values():
        if not figure["baseline"]:  # the memory of few codes
            continue
        assert figure["ratio"] == pytest.approx(figure["value"] / figure["baseline"])
    for kind in ("exact", "memory", "disk", "shards"):
        for name in ("p50", "p99", "batch", "recall", "overlap", "build", "memory"):
            assert np.isfinite(figures[f"large_{kind}_{name}"]["value"])
        assert figures[f"large_{kind}_p50"]["value"] <= figures[f"large_{kind}_p99"]["value"]
    assert figures["large_cold_p50"]["value"] > 0
    assert figures["large_exact_recall"]["value"] == figures["large_exact_overlap"]["value"] == 1
    # Lists are the same in memory and on the disk.
    assert figures["large_memory_recall"] == figures["large_disk_recall"]
    assert figures["large_memory_overlap"] == figures["large_disk_overlap"]
    recalls = [figures[f"large_probes_{probes}"]["value"] for probes in (1, 16)]
    assert 0 < recalls[0] < recalls[1] <= 1 and "large_probes_999" not in figures
    assert figures["large_random_probes_1"]["value"] < recalls[0]
    assert 16 < figures["large_disk_bytes"]["value"] < 18
    assert figures["large_disk_bytes"]["baseline"] == 8


def test_clusters_are_those_of_the_seed():
    one, other = (draw_codes(500, SMALL, clustered=True, seed=seed) for seed in (1, 2))
    far = np.bitwise_count(one[:, None] ^ other[None]).sum(axis=2).min(axis=1)
    free = draw_codes(500, SMALL, clustered=False, seed=3)
    farther = np.bitwise_count(one[:, None] ^ free[None]).sum(axis=2).min(axis=1)
    assert 4 < far.mean() < 13 < farther.mean()  # 11.5 bits apart on average in a cluster
    np.testing.assert_array_equal(one, draw_codes(500, SMALL, clustered=True, seed=1))


def test_memory_of_the_codes_is_seen(tmp_path):
    codes = draw_codes(2_000_000, SMALL, clustered=False, seed=1)
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "queries.npy", codes[:10])
    config = large_search_memory.Config(
        codes=tmp_path / "codes.npy", queries=tmp_path / "queries.npy", kind="exact"
    )
    told = large_search_memory.main(config)
    assert 15 < told["megabytes"] < 30 and told["peak_megabytes"] > 15
    with pytest.raises(ValueError, match="`--kind` must be one of exact, memory"):
        large_search_memory.Config(codes=tmp_path, queries=tmp_path, kind="fast")
