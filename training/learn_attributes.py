"""Learns binary attributes from the clusters of a run.

    python -m training.learn_attributes --clusters runs/clusters --bits 64 --run runs/attributes

Attributes are a projection of the features of the network that the clusters come from; both are
trained on, by triplets of the clusters. (Round 0 has hand-made features and no network: then it is
the projection alone, and there is no module.) With `--unit image` the photographs that the patches
were cut from are described whole by the network as it is, clustered anew, and have a code each. The
same command again resumes a run that was interrupted, and says so where it is finished. The run
folder then holds a module with features, attributes and codes. Afterwards:
`python -m evaluation.retrieval --module runs/attributes/module`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from training.configs import load_recipe
from training.flags import parse_flags, run_script

UNITS = ("patch", "image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which clusters to learn from.

    Attributes:
        clusters: run folder of training.cluster_features.
        run: run folder; made, or resumed.
        recipe: a file in training/configs/ whose name begins with attributes: attributes_cifar10 if
            not given, attributes_photos for --unit image.
        unit: patch: attributes of the patches that were clustered; or image: of whole photographs.
        untrained: for --unit image: gives the network random weights, to compare.
        round: round of the clusters; the last one that was kept if not given.
        bits: number of attributes, a multiple of 8; the recipe's if not given.
        alpha: overrides the recipe, for ablations: weight of the variance.
        beta: overrides the recipe, for ablations: weight of the bits' dependence.
        contrast_size: overrides the recipe: samples among which the hardest negative is looked for;
            0 for the whole batch, as in the paper.
        neighbours: takes triplets' positives from this many nearest patches by the first features,
            in place of clusters, for the ablation UTH.
        passes: overrides the recipe: how often every clustered patch is seen.
        learning_rate: overrides the recipe.
        backbone_rate: overrides the recipe: learning rate of the network over that of the
            projection; 0 freezes it.
        seed: seed of every draw, 0 to 2**31 - 1.
        distribute: none, mirrored or multiworker, as for training.pretrain_context; --unit patch.
        deadline_minutes: how long workers wait for each other before they give up.
    """

    clusters: Path
    run: Path
    recipe: str | None = None
    unit: str = "patch"
    untrained: bool = False
    round: int | None = None
    bits: int | None = None
    alpha: float | None = None
    beta: float | None = None
    contrast_size: int | None = None
    neighbours: int | None = None
    passes: int | None = None
    learning_rate: float | None = None
    backbone_rate: float | None = None
    seed: int = 0
    distribute: str = "none"
    deadline_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Checks what no recipe checks."""
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError(f"`--neighbours` must be at least 1. Received: {self.neighbours}")
        if self.unit not in UNITS:
            raise ValueError(f"`--unit` must be one of {UNITS}. Received: {self.unit}")
        if self.untrained and self.unit == "patch":
            raise ValueError("`--untrained` belongs to `--unit image`. Received: --unit patch")
        if self.distribute != "none" and self.unit == "image":
            raise ValueError("`--distribute` belongs to `--unit patch`. Received: --unit image")
        for name in ("neighbours", "backbone_rate"):
            if getattr(self, name) is not None and self.unit == "image":
                flag = name.replace("_", "-")
                raise ValueError(f"`--{flag}` belongs to `--unit patch`. Received: --unit image")


def main(config: Config) -> dict[str, Any]:
    """Learns the attributes, or goes on, and gives the summary of the run."""
    from keras_ctxattr.attributes import AttributeRecipe, learn_attributes
    from keras_ctxattr.clustering import open_round
    from keras_ctxattr.runs.distribution import open_devices

    # Before the backbone is loaded, which opens TensorFlow's devices.
    devices = open_devices(config.distribute, deadline_minutes=config.deadline_minutes)
    given: dict[str, Any] = {
        "num_attributes": config.bits,
        "alpha": config.alpha,
        "beta": config.beta,
        "passes": config.passes,
        "learning_rate": config.learning_rate,
        "backbone_rate": config.backbone_rate,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if config.contrast_size is not None:
        chosen["contrast_size"] = config.contrast_size or None
    name = config.recipe or (
        "attributes_photos" if config.unit == "image" else "attributes_cifar10"
    )
    recipe = dataclasses.replace(load_recipe(name, AttributeRecipe), **chosen)
    clusters = open_round(config.clusters, config.round)
    if config.unit == "image":
        return _learn_of_photographs(config, clusters, recipe)
    backbone = clusters.load_backbone()
    source = {"clusters": str(config.clusters), "round": clusters.number}
    neighbours = None
    if config.neighbours:
        source["neighbours"] = config.neighbours
        neighbours = _find_neighbours(open_round(config.clusters, 0).vectors, config.neighbours)
    return learn_attributes(
        clusters.vectors if backbone is None else clusters.patches.pixels,
        clusters.clusters.labels if neighbours is None else None,
        config.run,
        recipe,
        neighbours=neighbours,
        backbone=backbone,
        vectors=clusters.vectors,
        source=source,
        seed=config.seed,
        devices=devices,
    )


def _learn_of_photographs(config: Config, clusters: Any, recipe: Any) -> dict[str, Any]:
    import keras

    from keras_ctxattr.clustering import open_images
    from keras_ctxattr.pipeline import learn_photo_attributes
    from keras_ctxattr.pipeline.photographs import DescribingProgress

    backbone = clusters.load_backbone()
    if backbone is None:
        raise ValueError(
            "`--unit image` needs a network: give a round from 1 on. Received: round 0 of "
            f"{config.clusters}"
        )
    if config.untrained:
        keras.utils.set_random_seed(config.seed)
        backbone = keras.models.clone_model(backbone)
    return learn_photo_attributes(
        open_images(config.clusters),
        backbone,
        config.run,
        recipe,
        source={
            "clusters": str(config.clusters),
            "round": clusters.number,
            "untrained": config.untrained,
        },
        seed=config.seed,
        progress=DescribingProgress(lambda line: print(line, file=sys.stderr, flush=True)),
    )


def _find_neighbours(vectors: Any, count: int) -> np.ndarray:
    """Gives the rows of the nearest vectors of each, but itself, int64 `[n, count]`."""
    from sklearn.neighbors import NearestNeighbors

    known = np.asarray(vectors[:])
    if count >= len(known):
        raise ValueError(
            f"`--neighbours` must be less than the number of patches. Received: {count} of "
            f"{len(known)}"
        )
    # Without a table, each vector is not its own neighbour.
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(known)
    return search.kneighbors(return_distance=False)


def _report(config: Config) -> None:
    summary = main(config)
    bits = summary["bits"]
    known = (
        f"{summary['num_photographs']:,} photographs"
        if "num_photographs" in summary
        else f"{summary['num_clusters']:,} clusters"
        if summary["num_clusters"]
        else "neighbours"
    )
    print(
        f"{config.run}: {len(bits['shares'])} attributes of {known}; "
        f"{bits['dead']} dead, {bits['duplicate']} duplicate, entropy {bits['entropy']:.2f} bits "
        f"each, mean correlation {bits['correlation']:.2f}."
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
