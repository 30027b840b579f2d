"""The ways to learn detection, by name."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_ctxattr.tasks.detection.fast_rcnn.method import FastRcnnDetector, FastRcnnMethod
from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.rcnn.method import RcnnDetector, RcnnMethod
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe
from keras_ctxattr.tasks.detection.retinanet.method import RetinaNetDetector, RetinaNetMethod
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe
from keras_ctxattr.tasks.detection.starting import Start
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork


class Method(Protocol):
    """What each way offers; see `FastRcnnMethod`."""

    needs_proposals: bool
    recipe: Any

    def build(self, num_classes: int) -> keras.Model:
        """Gives the compiled model, not yet rescaled."""

    def initialize(self, model: Any, batches: tf.data.Dataset) -> dict[str, Any]:
        """Finishes a model that has not been trained; says how that went."""

    def batches(
        self, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray], first_step: int = 0
    ) -> tf.data.Dataset:
        """Gives the training batches from a step on, without end."""

    def detector(self, model: Any) -> "Detector":
        """Gives what detects with the model as it is."""

    def finish(
        self, model: Any, photographs: BoxedPhotographs, proposals: Sequence[np.ndarray]
    ) -> "Detector":
        """Gives what detects with the trained model, once the rest is learnt."""


class Detector(Protocol):
    """What has been learnt; see `FastRcnnDetector`."""

    needs_proposals: ClassVar[bool]
    recipe: Any

    def detect(
        self,
        photographs: BoxedPhotographs,
        proposals: Sequence[np.ndarray],
        progress: Any = None,
    ) -> list[Detections]:
        """Gives the detections of each photograph."""

    def save(self, folder: Path) -> None:
        """Writes it into a folder."""

    @classmethod
    def load(cls, folder: Path, recipe: Any) -> "Detector":
        """Reads what `save` wrote."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """The classes that make up a method.

    Attributes:
        recipe: Of its recipes.
        method: Learns.
        detector: Detects.
    """

    recipe: type
    method: Any
    detector: Any


METHODS: dict[str, Kind] = {
    "fast_rcnn": Kind(recipe=FastRcnnRecipe, method=FastRcnnMethod, detector=FastRcnnDetector),
    "retinanet": Kind(recipe=RetinaNetRecipe, method=RetinaNetMethod, detector=RetinaNetDetector),
    "rcnn": Kind(recipe=RcnnRecipe, method=RcnnMethod, detector=RcnnDetector),
}
"""By name."""


def make_method(
    name: str, features: FeatureNetwork, recipe: Any, start: Start, seed: int
) -> Method:
    """Gives a method by name.

    Raises:
        ValueError: if there is none of that name, or the recipe is another's.
    """
    if name not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {name}")
    kind = METHODS[name]
    if not isinstance(recipe, kind.recipe):
        raise ValueError(
            f"`recipe` must be a {kind.recipe.__name__} for {name}. "
            f"Received: {type(recipe).__name__}"
        )
    return kind.method(features, recipe, start, seed)
