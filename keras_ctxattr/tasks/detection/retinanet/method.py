"""RetinaNet as one of the ways to learn detection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.retinanet.batches import retinanet_batches
from keras_ctxattr.tasks.detection.retinanet.detecting import Told, detect_retinanet
from keras_ctxattr.tasks.detection.retinanet.network import (
    build_retinanet,
    check_keras_hub,
    load_retinanet,
)
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe
from keras_ctxattr.tasks.detection.starting import Start
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork

if TYPE_CHECKING:
    from keras_hub.models import RetinaNetObjectDetector

MODEL = "model.keras"


class RetinaNetMethod:
    """Learns to tell anchors apart, at all places and sizes at once.

    Args:
        features: The network to start from.
        recipe: Photographs, detector, loss and optimiser.
        start: Whether its weights are kept. Nothing is rescaled: the maps are normalised before
            anything fresh sees them, and Adam does not mind the size of gradients.
        seed: Of weights and draws.

    Raises:
        MissingPackageError: If keras-hub is not installed.
    """

    needs_proposals = False

    def __init__(
        self, features: FeatureNetwork, recipe: RetinaNetRecipe, start: Start, seed: int
    ) -> None:
        check_keras_hub()
        self.features, self.recipe, self.start, self.seed = features, recipe, start, seed

    def build(self, num_classes: int) -> RetinaNetObjectDetector:
        """Gives the compiled model."""
        return build_retinanet(
            self.features, num_classes, self.recipe, transfer=self.start.transfer, seed=self.seed
        )

    def initialize(
        self, model: RetinaNetObjectDetector, batches: tf.data.Dataset
    ) -> dict[str, Any]:
        """Does nothing: the model is ready."""
        del model, batches
        return {}

    def batches(
        self, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray], first_step: int = 0
    ) -> tf.data.Dataset:
        """Gives the training batches from a step on, without end."""
        del proposals
        return retinanet_batches(
            photographs,
            self.features.processing,
            self.recipe,
            seed=self.seed,
            first_step=first_step,
        )

    def detector(self, model: RetinaNetObjectDetector) -> RetinaNetDetector:
        """Gives what detects with the model as it is."""
        return RetinaNetDetector(model=model, recipe=self.recipe)

    def finish(
        self,
        model: RetinaNetObjectDetector,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray],
    ) -> RetinaNetDetector:
        """Gives what detects with the trained model; nothing is left to learn."""
        del photographs, proposals
        return self.detector(model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetinaNetDetector:
    """A trained RetinaNet and how photographs come to it.

    Attributes:
        model: The network.
        recipe: Size of photographs, and what counts as a detection.
    """

    needs_proposals: ClassVar[bool] = False

    model: RetinaNetObjectDetector
    recipe: RetinaNetRecipe

    def detect(
        self,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray] = (),
        progress: Told | None = None,
    ) -> list[Detections]:
        """Gives the detections of each photograph."""
        del proposals
        return detect_retinanet(self.model, photographs, self.recipe, progress=progress)

    def save(self, folder: Path) -> None:
        """Writes the network into a folder."""
        self.model.save(folder / MODEL)

    @classmethod
    def load(cls, folder: Path, recipe: RetinaNetRecipe) -> RetinaNetDetector:
        """Reads what `save` wrote."""
        return cls(model=load_retinanet(folder / MODEL), recipe=recipe)
