"""Memory of discriminative clustering: a process of its own for `evaluation.speed`.

    python -m evaluation.clusters_memory --features SHARDS --cache-bytes 4194304

Prints `{"seconds": ..., "megabytes": ...}`: what clustering adds to the process at its highest.
"""

import dataclasses
import json
import sys
from pathlib import Path

from evaluation.checks import check_counts, check_seed
from evaluation.memory import watch_memory
from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.data.shards import ShardedArray
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to cluster.

    Attributes:
        features: folder of .npy files, in order, float [rows, num_features].
        samples_per_cluster: samples of a half for each seed.
        cache_bytes: memory for negatives.
        seed: of halves and seeds.
    """

    features: Path
    samples_per_cluster: int = 16
    cache_bytes: int = 1 << 30
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "samples_per_cluster", "cache_bytes")
        check_seed(self)

    def make_clustering(self, seeding: str = "auto") -> DiscriminativeClustering:
        """Gives the estimator: each stage once or twice, which takes as much memory as more."""
        return DiscriminativeClustering(
            samples_per_cluster=self.samples_per_cluster,
            num_iterations=2,
            num_growths=2,
            normalize=True,
            seeding=seeding,
            cache_bytes=self.cache_bytes,
            random_state=self.seed,
        )


def main(config: Config) -> dict[str, float]:
    """Clusters, and gives the seconds and the memory that it added."""
    table = ShardedArray(sorted(config.features.glob("*.npy")))
    # What runs for the first time loads kernels and starts threads, whatever the sizes.
    dataclasses.replace(config, samples_per_cluster=4).make_clustering("minibatch").fit(table[:600])
    seconds, megabytes = watch_memory(lambda: config.make_clustering().fit(table))
    return {"seconds": seconds, "megabytes": megabytes}


def report(config: Config) -> None:
    """Prints what it took."""
    print(json.dumps(main(config)))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
