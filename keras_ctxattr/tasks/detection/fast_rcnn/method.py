"""Fast R-CNN as one of the ways to learn detection."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.backbones.precision import resolve_policy
from keras_ctxattr.tasks.detection.candidates import find_candidates
from keras_ctxattr.tasks.detection.fast_rcnn.batches import fast_rcnn_batches
from keras_ctxattr.tasks.detection.fast_rcnn.detecting import Told, detect_regions
from keras_ctxattr.tasks.detection.fast_rcnn.network import FastRcnn, fast_rcnn_network
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.starting import Start, draw_weights, rescale_network
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, load_detection_model

MODEL = "model.keras"


class FastRcnnMethod:
    """Learns to tell proposals apart on a shared map.

    Args:
        features: the network to start from.
        recipe: geometry, sampling, head and optimiser.
        start: how its weights begin.
        seed: of weights and draws.

    Raises:
        ValueError: if weights shall be rescaled and cannot be reached.
    """

    needs_proposals = True

    def __init__(
        self, features: FeatureNetwork, recipe: FastRcnnRecipe, start: Start, seed: int
    ) -> None:
        if not features.can_be_rescaled and (start.rescale or not start.transfer):
            raise ValueError(
                "A network whose layers can be reached is needed to rescale it, or to start from "
                "scratch; without, pass `--no-rescale` and transfer its weights. "
                f"Received: {features.name}"
            )
        self.features, self.recipe, self.start, self.seed = features, recipe, start, seed

    def build(self, num_classes: int) -> FastRcnn:
        """Gives the compiled model, not yet rescaled."""
        keras.utils.set_random_seed(self.seed)
        if not self.start.transfer:
            draw_weights(self.features.model, self.seed)
        policy = resolve_policy(self.recipe.dtype_policy)
        network = fast_rcnn_network(self.features, num_classes, self.recipe, policy=policy)
        model = FastRcnn(
            network,
            dtype=policy,  # so that float16 gets its loss scaled
            weight_decay=self.recipe.weight_decay,
            transferred=self._transferred() if self.start.transfer else (),
            backbone_rate=self.recipe.backbone_rate,
        )
        optimizer = keras.optimizers.SGD(
            self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            global_clipnorm=self.recipe.clip_norm,
        )
        model.compile(optimizer=optimizer, jit_compile=False)
        return model

    def initialize(self, model: FastRcnn, batches: tf.data.Dataset) -> dict[str, Any]:
        """Rescales a model that has not been trained; says how that went."""
        if not self.start.rescale:
            return {}
        num_classes = model.network.get_layer("logits").units - 1
        keras.utils.set_random_seed(self.seed)
        precise = fast_rcnn_network(self.features, num_classes, self.recipe)
        told = rescale_network(precise, batches, self.start, self._transferred(), self.seed)
        model.network.set_weights(precise.get_weights())
        return told

    def batches(
        self,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray],
        first_step: int = 0,
    ) -> tf.data.Dataset:
        """Gives the training batches from a step on, without end."""
        candidates = find_candidates(photographs, proposals)
        return fast_rcnn_batches(
            photographs.manifest, candidates, self.recipe, seed=self.seed, first_step=first_step
        )

    def detector(self, model: FastRcnn) -> "FastRcnnDetector":
        """Gives what detects with the model as it is."""
        return FastRcnnDetector(model=model, recipe=self.recipe)

    def finish(
        self, model: FastRcnn, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray]
    ) -> "FastRcnnDetector":
        """Gives what detects with the trained model; nothing is left to learn."""
        del photographs, proposals
        return self.detector(model)

    def _transferred(self) -> list[str]:
        return [layer.name for layer in self.features.model.layers if layer.weights]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastRcnnDetector:
    """A trained network and how photographs come to it.

    Attributes:
        model: The network.
        recipe: Geometry, and what counts as a detection.
    """

    needs_proposals: ClassVar[bool] = True

    model: FastRcnn
    recipe: FastRcnnRecipe

    def detect(
        self,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray],
        progress: Told | None = None,
    ) -> list[Detections]:
        """Gives the detections of each photograph."""
        return detect_regions(
            self.model, photographs.manifest, proposals, self.recipe, progress=progress
        )

    def save(self, folder: Path) -> None:
        """Writes the network into a folder."""
        self.model.save(folder / MODEL)

    @classmethod
    def load(cls, folder: Path, recipe: FastRcnnRecipe) -> "FastRcnnDetector":
        """Reads what `save` wrote."""
        return cls(model=load_detection_model(folder / MODEL), recipe=recipe)
