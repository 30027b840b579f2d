"""R-CNN as one of the ways to learn detection."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.candidates import find_candidates
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.rcnn.batches import rcnn_batches
from keras_ctxattr.tasks.detection.rcnn.describing import Progress
from keras_ctxattr.tasks.detection.rcnn.detecting import detect_rcnn
from keras_ctxattr.tasks.detection.rcnn.network import (
    Rcnn,
    build_rcnn,
    rcnn_network,
    transferred_part,
)
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe
from keras_ctxattr.tasks.detection.rcnn.svm import RegionSvms, fit_region_svms
from keras_ctxattr.tasks.detection.starting import Start, draw_weights, rescale_network
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, load_detection_model

MODEL = "model.keras"
SVMS = "svms.npz"


class RcnnMethod:
    """Learns to tell warped proposals apart.

    Args:
        features: the network to start from.
        recipe: geometry, network, sampling, optimiser and SVMs.
        start: how its weights begin.
        seed: of weights and draws.

    Raises:
        ValueError: if the network cannot be taken apart.
    """

    needs_proposals = True

    def __init__(
        self, features: FeatureNetwork, recipe: RcnnRecipe, start: Start, seed: int
    ) -> None:
        part = transferred_part(features)
        if not start.transfer:
            draw_weights(part, seed)
        self._part_name = part.name
        self.features = dataclasses.replace(features, whole=part)
        self.recipe, self.start, self.seed = recipe, start, seed

    def build(self, num_classes: int) -> Rcnn:
        """Gives the compiled model, not yet rescaled."""
        return build_rcnn(self.features, num_classes, self.recipe, seed=self.seed)

    def initialize(self, model: Rcnn, batches: tf.data.Dataset) -> dict[str, Any]:
        """Rescales a model that has not been trained; says how that went."""
        if not self.start.rescale:
            return {}
        keras.utils.set_random_seed(self.seed)
        num_classes = model.network.get_layer("fc8").units - 1
        precise = rcnn_network(self.features, num_classes, self.recipe)
        # Gradients come from the logits alone, as in training.
        scored = keras.Model(precise.inputs, precise.get_layer("fc8").output)
        told = rescale_network(scored, batches, self.start, [self._part_name], self.seed)
        model.network.set_weights(precise.get_weights())
        return told

    def batches(
        self, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray], first_step: int = 0
    ) -> tf.data.Dataset:
        """Gives the training batches from a step on, without end."""
        candidates = find_candidates(photographs, self.recipe.first(proposals))
        return rcnn_batches(
            photographs.manifest, candidates, self.recipe, seed=self.seed, first_step=first_step
        )

    def detector(self, model: Rcnn) -> "RcnnDetector":
        """Gives what detects with the model as it is, by its softmax."""
        return RcnnDetector(model=model, recipe=self.recipe)

    def finish(
        self, model: Rcnn, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray]
    ) -> "RcnnDetector":
        """Gives what detects with the trained model; learns SVMs, if the recipe has them."""
        if not self.recipe.svms:
            return self.detector(model)
        svms = fit_region_svms(model, photographs, self.recipe.first(proposals), self.recipe)
        return RcnnDetector(model=model, recipe=self.recipe, svms=svms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RcnnDetector:
    """A trained network, its SVMs, and how photographs come to it.

    Attributes:
        model: The network.
        recipe: Geometry, and what counts as a detection.
        svms: What scores regions; the model's softmax does if None.
    """

    needs_proposals: ClassVar[bool] = True

    model: Rcnn
    recipe: RcnnRecipe
    svms: RegionSvms | None = None

    def detect(
        self,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray],
        progress: Progress | None = None,
    ) -> list[Detections]:
        """Gives the detections of each photograph."""
        looked_at = self.recipe.first(proposals)
        return detect_rcnn(
            self.model, photographs.manifest, looked_at, self.recipe, self.svms, progress=progress
        )

    def save(self, folder: Path) -> None:
        """Writes network and SVMs into a folder."""
        self.model.save(folder / MODEL)
        if self.svms is not None:
            self.svms.save(folder / SVMS)

    @classmethod
    def load(cls, folder: Path, recipe: RcnnRecipe) -> "RcnnDetector":
        """Reads what `save` wrote."""
        svms = RegionSvms.load(folder / SVMS) if (folder / SVMS).exists() else None
        return cls(model=load_detection_model(folder / MODEL), recipe=recipe, svms=svms)
