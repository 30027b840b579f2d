"""What `DiscriminativeClustering` refuses, each in one line."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ctxattr.clustering.seeding import check_seeding


def check_parameters(given: Mapping[str, Any]) -> None:
    """Refuses parameters of `DiscriminativeClustering` that cannot be, in one line."""
    counts = {
        name: given[name]
        for name in (
            "samples_per_cluster",
            "min_size",
            "max_size",
            "num_iterations",
            "num_candidates",
            "min_firing",
            "num_members",
            "grown_size",
        )
    }
    low = {name: value for name, value in counts.items() if value < 1}
    if low:
        raise ValueError(f"These must be at least 1. Received: {low}")
    if given["max_size"] < given["min_size"] or given["num_candidates"] < given["num_members"]:
        raise ValueError(
            "`max_size` must be at least `min_size` and `num_candidates` at least "
            f"`num_members`. Received: {counts}"
        )
    if not 0 <= given["validation_share"] < 1 or given["num_growths"] < 0:
        raise ValueError(
            "`validation_share` must be in [0, 1) and `num_growths` at least 0. Received: "
            f"validation_share={given['validation_share']}, num_growths={given['num_growths']}"
        )
    if given["max_negatives"] is not None and given["max_negatives"] < 1:
        raise ValueError(
            f"`max_negatives` must be at least 1, or None. Received: {given['max_negatives']}"
        )
    check_seeding(given["seeding"])


def check_groups(groups: Any, num_samples: int) -> np.ndarray:
    """Gives the group of each sample `[num_samples]`, or refuses another shape."""
    named = np.asarray(groups)
    if named.shape != (num_samples,):
        raise ValueError(
            f"`groups` must be [{num_samples}], one a sample. Received: {list(named.shape)}"
        )
    return named


def check_world(table: Any, world: Any) -> None:
    """Refuses a natural world of other features than the samples', or of the same samples."""
    if len(world.shape) != 2 or world.shape[1] != table.shape[1]:
        raise ValueError(
            f"`natural_world` must have the {table.shape[1]} features of `X`. "
            f"Received: shape {tuple(world.shape)}"
        )
    same = len(world) == len(table)
    if same and np.array_equal(np.asarray(world[:256]), np.asarray(table[:256])):
        raise ValueError(
            "`natural_world` must hold other samples than `X`, or every cluster stands against "
            "itself; leave it out to have half of `X` take its part. Received: the same"
        )
