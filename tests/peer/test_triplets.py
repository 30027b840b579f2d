"""The triplet term against TensorFlow Addons, by kept values and by running it."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr.attributes.losses import triplet_hinges
from tests.peer.triplets import CASES, MARGINS, draw

KEPT = Path(__file__).with_name("triplet_values.json")


def test_the_mean_hinge_is_that_of_triplet_hard_loss():
    """With two samples a cluster, its hardest positive is the only one."""
    rows = json.loads(KEPT.read_text(encoding="utf-8"))
    assert len(rows) == len(CASES) * len(MARGINS)
    for seed, num_bits, num_clusters, margin, value in rows:
        codes, clusters = draw(seed, num_bits, num_clusters)
        positives = np.arange(len(codes)) ^ 1
        found = np.mean(triplet_hinges(codes, clusters, positives, margin))
        assert value > 0
        assert found == pytest.approx(value, rel=1e-6)


@pytest.mark.peer
@pytest.mark.slow
def test_the_kept_values_are_those_that_it_gives(peer_python: Path) -> None:
    done = subprocess.run(
        [peer_python, "-I", Path(__file__).with_name("triplets.py")],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    given = np.array(json.loads(done.stdout), float)
    np.testing.assert_allclose(given, np.array(json.loads(KEPT.read_text()), float), rtol=1e-6)
