"""What a finished alternation left on the disk, for whoever goes on from it."""

import dataclasses
from pathlib import Path
from typing import Any

import keras

from keras_ctxattr.clustering.alternation.network import BACKBONE
from keras_ctxattr.clustering.alternation.patches import IMAGES, PATCHES
from keras_ctxattr.clustering.table import ClusterTable
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.patches import PatchTable
from keras_ctxattr.features import FeatureTable
from keras_ctxattr.runs import Run

KIND = "clusters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterRound:
    """A round: patches, their features, their clusters.

    Attributes:
        number: 0 for the first features.
        is_kept: whether it is not worse than the one before.
        patches: all patches of the run, the same in every round.
        clusters: of these patches.
        vectors: features that were clustered, float32 `[n, num_features]`, memory-mapped.
        backbone_path: the network that gave the features; None in round 0.
    """

    number: int
    is_kept: bool
    patches: PatchTable
    clusters: ClusterTable
    vectors: Any
    backbone_path: Path | None

    def load_backbone(self) -> keras.Model | None:
        """Gives the network, or None in round 0."""
        return self.backbone_path and keras.saving.load_model(self.backbone_path)


def open_images(folder: str | Path) -> Manifest:
    """Gives the images that a run's patches were cut from.

    Args:
        folder: of `alternate_clusters`.

    Raises:
        RunError: if it is no such run.
        ValueError: if its patches are not of images, as those of contours.
    """
    run = Run.read(folder, kind=KIND)
    path = run.path / IMAGES
    if not path.exists():
        raise ValueError(
            f"The run must have cut patches of images. Received: {run.path}, without {IMAGES}"
        )
    return Manifest.load(path)


def open_rounds(folder: str | Path) -> list[ClusterRound]:
    """Gives the rounds of a run folder that are done, the kept and the others.

    Args:
        folder: of `alternate_clusters`.

    Raises:
        RunError: if it is no such run.
        ValueError: if no round is done.
    """
    run = Run.read(folder, kind=KIND)
    rounds: list[ClusterRound] = []
    for number in range(run.config["rounds"] + 1):
        path = run.path / "rounds" / str(number)
        if not (path / "clusters").exists():
            break
        clusters = ClusterTable.open(path / "clusters")
        rounds.append(
            ClusterRound(
                number=number,
                is_kept=clusters.facts["round"]["kept"],
                patches=rounds[0].patches if rounds else PatchTable.open(run.path / PATCHES),
                clusters=clusters,
                vectors=FeatureTable.open(path / "features").vectors,
                backbone_path=path / "training" / BACKBONE if number else None,
            )
        )
    if not rounds:
        raise ValueError(
            f"{run.path} has no clusters yet: give the training command again, which goes on."
        )
    return rounds


def open_round(folder: str | Path, number: int | None = None) -> ClusterRound:
    """Gives one round of a run folder.

    Args:
        folder: of `alternate_clusters`.
        number: of the round; None takes the last one that was kept.

    Raises:
        RunError: if it is no such run.
        ValueError: if there is no such round.
    """
    rounds = open_rounds(folder)
    if number is None:
        return [one for one in rounds if one.is_kept][-1]
    if not 0 <= number < len(rounds):
        raise ValueError(
            f"`round` must be 0 to {len(rounds) - 1}, which the run has. Received: {number}"
        )
    return rounds[number]
