"""One protocol for all networks: the same photographs, neighbours, and draws of examples."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.images import encoded_reader, load_images
from keras_ctxattr.data.manifest import CollectionError, Manifest
from keras_ctxattr.export.module import MAX_ASPECT
from keras_ctxattr.pictures import neighbours_sheet
from keras_ctxattr.tasks.comparison.metrics import (
    class_mean_accuracy,
    few_shot_accuracies,
    nearest_others,
    shared_neighbours,
    vote,
)
from keras_ctxattr.tasks.comparison.networks import Network

Progress = Callable[[int, int | None], None]

PROTOCOL = "keras_ctxattr comparison 1"
_TILE = 96
_MIN_NORM = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is measured.

    Attributes:
        num_neighbours: Neighbours that vote, and are compared; at least 1.
        shots: Labelled examples of a class, for each of the few-shot figures.
        num_draws: Draws of these examples, at least 2.
        seed: Of the draws and of the choice of queries in the picture.
    """

    num_neighbours: int = 10
    shots: tuple[int, ...] = (1, 5)
    num_draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.num_neighbours < 1 or self.num_draws < 2 or min(self.shots, default=1) < 1:
            raise ValueError(
                "`num_neighbours` and `shots` must be at least 1, `num_draws` at least 2. "
                f"Received: {self}"
            )

    def describe(self) -> str:
        """Says in words what exactly is measured."""
        shots = " and ".join(map(str, self.shots))
        return (
            f"{PROTOCOL}: exact copies left out; features at unit length, not centred; accuracies "
            f"are means over classes; k-NN: each photograph by its {self.num_neighbours} nearest "
            "others by cosine, all other photographs being the gallery, +- the standard error over "
            f"photographs; few-shot: nearest class mean of {shots} examples a class, tested on all "
            f"others, mean +- standard deviation of {self.num_draws} draws, the same for every "
            "network"
        )


def choose_images(manifest: Manifest) -> Manifest:
    """Gives the images that every network can be given: usable, and not too thin for modules.

    Raises:
        CollectionError: If there are fewer than 3.
    """
    sides = np.stack([manifest.heights, manifest.widths])
    is_thin = sides.max(axis=0) > MAX_ASPECT * np.maximum(sides.min(axis=0), 1)
    reason = f"sides differ more than {MAX_ASPECT} times"
    usable = manifest.skip_where(is_thin & (manifest.skips == ""), reason).usable()
    if len(usable) < 3:
        raise CollectionError(
            "A comparison must have at least 3 photographs that can be used and are no copies. "
            f"Received: {len(usable)}"
        )
    return usable


def compare_networks(
    manifest: Manifest,
    networks: Sequence[Network],
    labels: np.ndarray | None = None,
    protocol: Protocol | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compares networks by what they find alike.

    Args:
        manifest: The images, as `choose_images` gives them.
        networks: Of different names.
        labels: Int `[images]`, the class of each, -1 for none; None compares neighbours only.
        protocol: `Protocol()` if None.
        progress: Called with (descriptions made, images times networks).

    Returns:
        (the results as JSON types: `networks`, each with its figures; `shared_neighbours`;
        neighbours of every image by name of the network, int64 `[images, k]`).

    Raises:
        ValueError: If labels do not allow the figures.
    """
    protocol = protocol or Protocol()
    chosen = None if labels is None else _scored_classes(labels, max(protocol.shots, default=1))
    count = min(protocol.num_neighbours, len(manifest) - 1)
    figures: dict[str, Any] = {}
    neighbours: dict[str, np.ndarray] = {}
    for number, network in enumerate(networks):
        vectors = describe_images(network, manifest, number, len(networks), progress)
        neighbours[network.name] = nearest_others(vectors, count)[0]
        figures[network.name] = {"about": network.about, "num_features": vectors.shape[1]}
        if labels is not None and chosen is not None:
            figures[network.name] |= _score(vectors[chosen], labels[chosen], protocol)
    shared = {
        f"{one} | {other}": shared_neighbours(neighbours[one], neighbours[other])
        for one, other in itertools.combinations(neighbours, 2)
    }
    results = {
        "protocol": protocol.describe(),
        "seed": protocol.seed,
        "num_images": len(manifest),
        "networks": figures,
        "shared_neighbours": shared,
    }
    if labels is not None and chosen is not None:
        num_classes = len(np.unique(labels[chosen]))
        results |= {
            "num_scored": len(chosen),
            "num_classes": num_classes,
            "chance": 1 / num_classes,
        }
    return results, neighbours


def describe_images(
    network: Network,
    manifest: Manifest,
    number: int = 0,
    num_networks: int = 1,
    progress: Progress | None = None,
) -> np.ndarray:
    """Gives the features of images by one network, float32 `[images, num_features]`, unit length.

    Args:
        network: The network.
        manifest: Usable images.
        number: Networks that were done before, for the progress.
        num_networks: Networks in all.
        progress: Called with (descriptions made, images times networks).

    Raises:
        ValueError: If features are not finite.
    """
    read = encoded_reader(manifest)

    # There is nothing to convert, and AutoGraph says so at length.
    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tf.Tensor:
        return read(row)

    files = tf.data.Dataset.range(len(manifest)).map(load)
    vectors = []
    for done, encoded in enumerate(files.prefetch(4), start=1):
        vectors.append(np.asarray(network.describe(encoded), np.float32))
        if progress is not None:
            progress(number * len(manifest) + done, num_networks * len(manifest))
    found = np.stack(vectors)
    if not np.isfinite(found).all():
        raise ValueError(f"Features must be finite. Received: NaN or infinity of {network.name}")
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), _MIN_NORM)


def comparison_sheet(
    manifest: Manifest,
    neighbours: dict[str, np.ndarray],
    *,
    num_queries: int = 8,
    num_shown: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Shows some photographs beside what each network finds nearest to them.

    Args:
        manifest: The images.
        neighbours: For each network by name int `[images, k]`, the nearest first.
        num_queries: Rows, at least 1.
        num_shown: Neighbours of each network, at most k.
        seed: Of the choice of queries.

    Returns:
        Uint8 `[height, width, 3]`.
    """
    queries = np.random.default_rng(seed).permutation(len(manifest))[:num_queries]
    shown = {name: rows[queries, :num_shown] for name, rows in neighbours.items()}
    needed = np.unique(np.concatenate([queries, *(rows.ravel() for rows in shown.values())]))
    loaded = load_images(manifest.select(needed))
    pixels = {
        int(row): one["image"].numpy() for row, one in zip(needed.tolist(), loaded, strict=True)
    }
    return neighbours_sheet(
        [pixels[int(row)] for row in queries],
        {
            name: [[pixels[int(row)] for row in found] for found in rows]
            for name, rows in shown.items()
        },
        tile_size=_TILE,
    )


def _scored_classes(labels: np.ndarray, most_shots: int) -> np.ndarray:
    """Gives the rows whose class has more images than are drawn as examples, int64 `[rows]`."""
    counts = np.bincount(labels[labels >= 0])
    chosen = np.flatnonzero((labels >= 0) & (counts[np.maximum(labels, 0)] > most_shots))
    if len(np.unique(labels[chosen])) < 2:
        raise ValueError(
            f"At least 2 classes must have more than {most_shots} photographs; take fewer "
            f"examples, `--shots 1`. Received: classes of at most {counts.max(initial=0)}"
        )
    return chosen


def _score(vectors: np.ndarray, labels: np.ndarray, protocol: Protocol) -> dict[str, Any]:
    rows, cosines = nearest_others(vectors, min(protocol.num_neighbours, len(vectors) - 1))
    accuracy, error = class_mean_accuracy(vote(rows, cosines, labels), labels)
    figures: dict[str, Any] = {"knn_accuracy": {"mean": accuracy, "standard_error": error}}
    for shots in protocol.shots:
        found = few_shot_accuracies(vectors, labels, shots, protocol.num_draws, protocol.seed)
        figures[f"accuracy_of_{shots}_shot"] = {
            "mean": float(found.mean()),
            "std": float(found.std(ddof=1)),
            "draws": found.tolist(),
        }
    return figures
