"""The memory that discriminative clustering takes, as a formula of the sizes.

What lies on the disk and is mapped is not counted: the system takes it back where it is short.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from keras_ctxattr.clustering.detectors import COLUMNS
from keras_ctxattr.clustering.members import BEST_COLUMNS
from keras_ctxattr.clustering.merging import MAX_SCORES
from keras_ctxattr.clustering.rows import CHUNK
from keras_ctxattr.clustering.seeding import choose_seeding
from keras_ctxattr.clustering.svm.negatives import MAX_BLOCK, count_clusters
from keras_ctxattr.clustering.svm.spectrum import MAX_BASIS

RUNTIME_BYTES = 32 << 20
"""What the threads and kernels of TensorFlow and scikit-learn take by themselves, measured."""

_FLOAT = 4
_SAMPLE_BYTES = 120  # numbers, groups, halves, labels and what sorting them takes
_CHUNK_BYTES = 24  # of a number in a chunk: `measure` holds three in float64
_PASSING_ROWS = 6144  # two tiles of negatives, and those that starts are tried on
_LLOYD_ROWS = 256  # that a thread of scikit-learn compares with all centres at a time
_WEIGHTS = 7  # float32 of a weight: both halves' classifiers, the last in float64 and copied


def peak_memory_bytes(
    parameters: Mapping[str, Any],
    *,
    num_samples: int,
    num_features: int,
    num_world: int | None = None,
    num_threads: int | None = None,
) -> int:
    """Gives the memory that `DiscriminativeClustering.fit` adds to a process at its highest.

    It is what every stage keeps, 120 bytes a sample, and 32 MiB of the libraries', and the largest
    of what one takes. With h samples in a half, k = h / samples_per_cluster seeds, d features,
    w = d + 1, t threads, m members of a cluster, v devices and a cache of c bytes:

    - seeding, full: 8 h d + 4 k d (3 + t) + 1 024 k t
    - seeding in mini-batches of b = max(8 192, k): 12 b d + 16 k d + 1 024 k t
    - training: 12 k w + v (2 c + 4 w (6 144 + 4 w + 512 (3 m + 8))); blocks have fewer clusters
      where there are fewer, or the cache holds fewer; up to 3 000 features have the moments 4 w
    - scoring: 28 k w + 24 * 8 192 d + 8 * 8 192 min(k, 8 192) + 24 * 8 192 min(k, 512)
    - merging: training's, 4 d for each member, and 12 * 2**26 for scores

    So it grows with clusters times features, and with samples only by their numbers; where samples
    are many, `samples_per_cluster` should grow with them. It is a bound: fewer seeds than k have
    `min_size` members, and fewer still fire. One thing comes on top: on processors oneDNN keeps
    memory for every shape of a product that it has met, and clusters that are done leave a block
    one by one. It kept 160 to 530 MB where measured, up to what a block's margins take. With the
    environment variable TF_ENABLE_ONEDNN_OPTS=0, which changes the last bits, it keeps none, and
    SVMs were solved as fast.

    Args:
        parameters: the estimator's, as `get_params` gives them.
        num_samples: samples of the discovery set.
        num_features: of each.
        num_world: samples of the natural world; None where half of the samples take its part.
        num_threads: threads of scikit-learn; None: one a core.

    Example:
        >>> from keras_ctxattr.clustering import DiscriminativeClustering
        >>> parameters = DiscriminativeClustering().get_params()
        >>> few, more = (
        ...     peak_memory_bytes(parameters, num_samples=count, num_features=256)
        ...     for count in (10**5, 10**6)
        ... )
        >>> few < more
        True
    """
    stages = memory_of_stages(
        parameters,
        num_samples=num_samples,
        num_features=num_features,
        num_world=num_world,
        num_threads=num_threads,
    )
    return max(stages.values())


def memory_of_stages(
    parameters: Mapping[str, Any],
    *,
    num_samples: int,
    num_features: int,
    num_world: int | None = None,
    num_threads: int | None = None,
) -> dict[str, int]:
    """Gives what a process holds in each stage at most, bytes; see `peak_memory_bytes`."""
    world = -(-num_samples // 2) if num_world is None else num_world
    size = _Size(
        parameters=parameters,
        num_features=num_features,
        half=-(-num_samples // (4 if num_world is None else 2)),
        num_negatives=min(world, 2 * (parameters["max_negatives"] or world)),
        num_threads=num_threads or os.cpu_count() or 1,
    )
    kept = RUNTIME_BYTES + _SAMPLE_BYTES * (num_samples + (num_world or 0))
    weights = _FLOAT * size.num_seeds * (num_features + 1)
    chunk = _CHUNK_BYTES * CHUNK * num_features
    taken = {
        "measuring": chunk,
        "seeding": _seeding_bytes(size),
        "training": 3 * weights + len(parameters["devices"] or [None]) * _solver_bytes(size),
        "scoring": _WEIGHTS * weights + chunk + _score_bytes(size),
        "merging": weights + _merging_bytes(size),
    }
    return {name: kept + count for name, count in taken.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Size:
    """What memory depends on: numbers of samples in a half, of negatives, of features."""

    parameters: Mapping[str, Any]
    num_features: int
    half: int
    num_negatives: int
    num_threads: int

    @property
    def cache_bytes(self) -> int:
        return self.parameters["cache_bytes"]

    @property
    def num_seeds(self) -> int:
        return max(1, self.half // self.parameters["samples_per_cluster"])

    @property
    def num_members(self) -> int:
        grown = self.parameters["grown_size"] if self.parameters["num_growths"] else 0
        return max(self.parameters["max_size"], 2 * self.parameters["num_members"], 2 * grown)


def _seeding_bytes(size: _Size) -> int:
    threads = size.num_threads
    half, width, centres = size.half, _FLOAT * size.num_features, size.num_seeds
    compared = _FLOAT * _LLOYD_ROWS * threads * centres
    if (
        choose_seeding(size.parameters["seeding"], half, size.num_features, size.cache_bytes)
        == "full"
    ):
        # The samples and, for the tolerance, their deviations; each thread sums up centres.
        return width * (2 * half + (3 + threads) * centres) + compared
    return width * (3 * min(half, max(CHUNK, centres)) + 4 * centres) + compared


def _solver_bytes(size: _Size) -> int:
    """Gives what solving takes on one device: the caches, and vectors of d + 1 numbers."""
    width = size.num_features + 1
    working = min(size.num_negatives, size.cache_bytes // (_FLOAT * size.num_features))
    block = min(size.num_seeds, count_clusters(size.cache_bytes, working), MAX_BLOCK)
    rows = min(_PASSING_ROWS, 3 * size.num_negatives) + block * (3 * size.num_members + 8)
    moments = 4 * width if size.num_features <= MAX_BASIS else 0
    held = min(size.cache_bytes, _FLOAT * size.num_features * size.num_negatives)
    margins = min(size.cache_bytes, 5 * _FLOAT * working * block)
    return held + margins + _FLOAT * width * (rows + moments)


def _score_bytes(size: _Size) -> int:
    chunk = min(CHUNK, size.half)
    scores = 2 * _FLOAT * chunk * min(size.num_seeds, COLUMNS)
    return scores + 2 * (_FLOAT + 8) * chunk * min(size.num_seeds, BEST_COLUMNS)


def _merging_bytes(size: _Size) -> int:
    members = min(size.half, size.num_seeds * size.parameters["num_members"])
    vectors = _FLOAT * size.num_features * members
    scores = min(MAX_SCORES, members * size.num_seeds)
    return vectors + _solver_bytes(size) + 3 * _FLOAT * scores
