"""Finds visual concepts in unlabelled images, and learns features from them, in turn.

    python -m training.cluster_features --images PHOTOS --features hog --run runs/clusters

Round 0 clusters hand-made features (or those of a module); each further round trains a network on
random transformations of the clustered patches and clusters its features. The same command again
resumes a run that was interrupted, a clustering after its last whole stage, and says so where it is
finished; more `--rounds` go on with it.
Afterwards: `python -m evaluation.clusters --run runs/clusters --out results`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from keras_ctxattr.cli.app import scan_progress
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to find clusters in.

    Attributes:
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated.
        run: run folder; made, or resumed.
        features: first features: hog, daisy, fisher, colour, or the folder of a module.
        rounds: rounds of training and clustering after the first clustering.
        unit: what is clustered: image (each as one patch), random or lattice (patches of each), or
            contour (binary patches of the ground truth of BSDS500).
        size: side of a patch in pixels; images are scaled to it.
        patches_per_image: patches of an image for --unit random; 16 if not given.
        min_pixels: smallest area that images are scaled to for --unit random and lattice.
        max_pixels: largest such area.
        num_patches: patches of all images for --unit contour.
        split: for --unit contour: train, val or test; train and val if not given.
        backbone: network: small (for patches of 16 to 64 pixels), compact, alexnet or vgg16 (from
            64 on); small or compact by the size of the patches if not given.
        start: .keras file of such a network, whose weights round 1 begins with.
        method: discriminative, or kmeans, the ablation.
        num_clusters: clusters of --method kmeans.
        copies: random transformations of each patch that a network is trained on.
        samples_per_cluster: samples of a half for each seed of a cluster (the paper has 4).
        seeding: k-means that clusters start from: full, minibatch, or auto: the former while a
            half's samples fit into a gigabyte.
        growths: how often clusters grow once they are merged (the paper has 0).
        svm_c: weight of a sample's loss in an SVM (the paper has .1).
        seed: seed of every draw, 0 to 2**31 - 1.
        distribute: none; mirrored, for all GPUs of the machine; or multiworker, for processes
            that TF_CONFIG names, see docs/scale.md. They share the batches that networks learn
            from; all the rest the first of them does.
        deadline_minutes: how long workers wait for each other, and so for the first one's
            clustering, before they give up.
    """

    images: list[str]
    run: Path
    features: str = "hog"
    rounds: int = 3
    unit: str = "image"
    size: int = 32
    patches_per_image: int | None = None
    min_pixels: int = 150_000
    max_pixels: int = 450_000
    num_patches: int = 100_000
    split: str | None = None
    backbone: str | None = None
    start: Path | None = None
    method: str = "discriminative"
    num_clusters: int = 500
    copies: int = 20
    samples_per_cluster: int = 16
    seeding: str = "auto"
    growths: int = 4
    svm_c: float = 0.03
    seed: int = 0
    distribute: str = "none"
    deadline_minutes: float = 600.0


def main(config: Config) -> dict[str, Any]:
    """Runs the rounds, or goes on with them, and gives the summary of the run."""
    from keras_ctxattr.clustering import AlternationRecipe, alternate_clusters
    from keras_ctxattr.data.bsds import SPLITS
    from keras_ctxattr.runs.distribution import open_devices

    devices = open_devices(config.distribute, deadline_minutes=config.deadline_minutes)
    options: dict[str, Any] = (
        {"num_clusters": config.num_clusters}
        if config.method == "kmeans"
        else {
            "C": config.svm_c,
            "num_growths": config.growths,
            "samples_per_cluster": config.samples_per_cluster,
            # Runs from before there was a choice go on.
            **({} if config.seeding == "auto" else {"seeding": config.seeding}),
        }
    )
    recipe = AlternationRecipe(
        features=config.features,
        size=config.size,
        unit=config.unit,
        patches_per_image=config.patches_per_image,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        num_patches=config.num_patches,
        splits=(config.split,) if config.split else SPLITS,
        backbone=config.backbone or ("small" if config.size < 64 else "compact"),
        copies=config.copies,
        transformations={} if config.unit == "contour" else {"flip": 0.5},
        method=config.method,
        clustering=options,
    )
    with scan_progress() as progress:
        return alternate_clusters(
            config.images,
            config.run,
            recipe,
            rounds=config.rounds,
            start=config.start,
            seed=config.seed,
            devices=devices,
            progress=progress,
        )


def _report(config: Config) -> None:
    summary = main(config)
    kept = summary["rounds"][summary["kept"]]
    print(
        f"{config.run}: {kept['num_clusters']:,} clusters with {kept['coverage']:.1%} of "
        f"{summary['num_patches']:,} patches, from round {summary['kept']}. Finished: "
        f"{summary['stopped']}."
    )


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
