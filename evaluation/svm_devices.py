"""SVMs on some logical processors of one core each: a process of its own for `evaluation.speed`.

    CTXATTR_DEBUG=1 python -m evaluation.svm_devices --num-devices 2

Without that variable scripts of `evaluation` start TensorFlow before they divide anything. Prints
`{"seconds": ..., "digest": ...}`, the second of the weights.
"""

import dataclasses
import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.checks import check_counts, check_seed
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to solve, and on how many devices.

    Attributes:
        num_devices: logical processors.
        num_clusters: SVMs that are divided over them.
        num_negatives: of theirs.
        num_features: of a sample.
        seed: of the draws.
    """

    num_devices: int = 1
    num_clusters: int = 256
    num_negatives: int = 10_000
    num_features: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_devices", "num_clusters", "num_negatives", "num_features")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Divides this process's processor, solves, and gives the seconds and the weights' digest."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(config.num_devices)
    processor = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * config.num_devices
    tf.config.set_logical_device_configuration(processor, parts)
    # Imported once the processor is divided: their modules make tensors, which starts TensorFlow.
    from keras_ctxattr.clustering import fit_linear_svms

    positives, ids, negatives = _draw(config)
    # Blocks of an eighth of the clusters: a device waits little for the other's last.
    cache_bytes = 4 * 5 * config.num_negatives * max(1, config.num_clusters // 8)
    options: dict[str, Any] = {
        "cache_bytes": max(cache_bytes, negatives.nbytes),
        "devices": [f"CPU:{number}" for number in range(config.num_devices)],
    }
    few = ids < min(16, config.num_clusters)
    fit_linear_svms(positives[few], ids[few], negatives[:4096], **options)  # traces the functions
    start = time.perf_counter()
    svms = fit_linear_svms(positives, ids, negatives, **options)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "digest": hashlib.sha256(svms.weights.tobytes()).hexdigest()}


def _draw(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives five positives around each of the centres, their clusters, and the negatives."""
    generator = np.random.default_rng(config.seed)
    ids = np.repeat(np.arange(config.num_clusters), 5)
    centres = generator.standard_normal((config.num_clusters, config.num_features), np.float32)
    positives = centres[ids]
    positives += 0.7 * generator.standard_normal(positives.shape, np.float32)
    shape = (config.num_negatives, config.num_features)
    return positives, ids, generator.standard_normal(shape, np.float32)


def report(config: Config) -> None:
    """Prints what it took."""
    print(json.dumps(main(config)))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
