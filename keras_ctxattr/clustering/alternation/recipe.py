"""What an alternation of clustering and network training consists of, besides images and rounds."""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

from keras_ctxattr.backbones.networks import BACKBONES
from keras_ctxattr.clustering.discriminative import DiscriminativeClustering
from keras_ctxattr.clustering.kmeans import KMeansClustering
from keras_ctxattr.clustering.seeding import check_seeding
from keras_ctxattr.data.bsds import SPLITS
from keras_ctxattr.layers.transformation import check_transformations, draw_transformations

UNITS = ("image", "random", "lattice", "contour")
METHODS: Mapping[str, Any] = {
    "discriminative": DiscriminativeClustering,
    "kmeans": KMeansClustering,
}

_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "discriminative": {"C": 0.03, "normalize": True, "num_growths": 4, "samples_per_cluster": 16},
    "kmeans": {"normalize": True, "num_clusters": 500},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlternationRecipe:
    """Patches, first features, network and clustering. The defaults are for 32 x 32 images.

    Attributes:
        features: first features: `"hog"`, `"daisy"`, `"fisher"` or the folder of a module.
        size: side of a patch in pixels.
        unit: what a patch is: `"image"`, `"random"` or `"lattice"` as in
            `keras_ctxattr.data.patches.cut_patches`, or `"contour"`: binary cutouts of the boundary
            maps of BSDS500.
        patches_per_image: for `"random"`.
        min_pixels: for `"random"` and `"lattice"`: smallest area that an image is scaled to.
        max_pixels: largest such area.
        num_patches: for `"contour"`, of all images.
        splits: for `"contour"`: parts of BSDS500 that the patches are of.
        backbone: name of the network, see `keras_ctxattr.backbones.BACKBONES`.
        backbone_options: keyword arguments of that function.
        copies: random transformations of each clustered patch that the network is trained on.
        transformations: ranges of `RandomTransformation`, where they are not its defaults.
        batch_size: patches in a training step.
        learning_rate: at the start; it follows a half cosine to 0.
        weight_decay: decoupled, per step and unit of learning rate.
        dropout: share of the features that training sets to 0.
        method: `"discriminative"`, or `"kmeans"`, the ablation.
        clustering: arguments of `DiscriminativeClustering` or `KMeansClustering`, where they are
            not ours; those are filled in. Ours of the former are samples at unit length, fewer
            seeds, a third of its `C` and clusters that grow: chosen on CIFAR-10, where more patches
            are then in purer clusters, in less time. A still smaller `C` is a little better there;
            on patches of photographs nearly all seeds then merge into a few clusters.
        settled: adjusted Rand index of two rounds' clusters from which on they count as settled.
        dtype_policy: a Keras dtype policy, or `"auto"`, for training.
        checkpoint_minutes: time between checkpoints.

    Raises:
        ValueError: if a name is unknown or a number impossible.

    Reference:
        Huang, Loy, Tang 2016, section 3.1, gives the 20 copies; network and optimiser are ours.
    """

    features: str = "hog"
    size: int = 32
    unit: str = "image"
    patches_per_image: int | None = None
    min_pixels: int = 150_000
    max_pixels: int = 450_000
    num_patches: int = 100_000
    splits: tuple[str, ...] = SPLITS
    backbone: str = "small"
    backbone_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    copies: int = 20
    transformations: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"flip": 0.5})
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    dropout: float = 0.5
    method: str = "discriminative"
    clustering: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settled: float = 0.9
    dtype_policy: str = "auto"
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        """Checks what nothing further on checks before the work begins."""
        for name, choices in (
            ("unit", UNITS),
            ("backbone", tuple(BACKBONES)),
            ("method", tuple(METHODS)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {choices}. Received: {name}={getattr(self, name)!r}"
                )
        counts = {name: getattr(self, name) for name in ("copies", "batch_size", "num_patches")}
        if min(counts.values()) < 1:
            raise ValueError(f"These must be at least 1. Received: {counts}")
        if not (0 < self.learning_rate < math.inf and 0 <= self.dropout < 1 and self.settled <= 1):
            raise ValueError(
                "`learning_rate` must be over 0, `dropout` in [0, 1) and `settled` at most 1. "
                f"Received: learning_rate={self.learning_rate}, dropout={self.dropout}, "
                f"settled={self.settled}"
            )
        _check_names(
            "transformations", self.transformations, draw_transformations, {"num_patches", "seed"}
        )
        if self.clustering.get("num_clusters", 1) < 1:
            raise ValueError(
                f"`num_clusters` must be at least 1. Received: {self.clustering['num_clusters']}"
            )
        object.__setattr__(self, "clustering", {**_OPTIONS[self.method], **self.clustering})
        kind = METHODS[self.method]
        _check_names("clustering", self.clustering, kind.__init__, {"self", "random_state"})
        check_seeding(self.clustering.get("seeding", "auto"))
        # Nothing is drawn: that would open TensorFlow's devices before those of other workers.
        check_transformations(self.transformations)

    def make_clustering(self, seed: int) -> DiscriminativeClustering | KMeansClustering:
        """Gives the estimator that finds the clusters of a round."""
        return METHODS[self.method](**self.clustering, random_state=seed)


def _check_names(what: str, given: Mapping[str, Any], function: Any, fixed: set[str]) -> None:
    """Refuses arguments that a function does not have, or that the run sets itself."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in _NAMED and name not in fixed
    ]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ValueError(f"`{what}` may hold {', '.join(known)}. Received: {', '.join(unknown)}")
