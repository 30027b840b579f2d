"""Linear SVMs on the features of regions, with hard negatives from one pass over photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.clustering.svm import fit_linear_svms
from keras_ctxattr.runs import write_atomically
from keras_ctxattr.tasks.detection.metrics import box_overlaps
from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.rcnn.describing import Progress, describe_regions
from keras_ctxattr.tasks.detection.rcnn.network import Rcnn
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe

_HARD, _EASY = -1.0, -1.2  # scores above the first are cached, below the second dropped
_POSITIVE_COPIES = 2  # the weight of their loss
_INTERCEPT = 10.0  # what the intercept's weight is multiplied by: so it is hardly regularised
_NEVER = -1e6  # score of a class that has no object to learn from


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RegionSvms:
    """One linear classifier a class, on the features of regions.

    Attributes:
        weights: Float32 `[num_classes, num_features + 1]`; the last column is the intercept.
    """

    weights: np.ndarray

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Gives float32 `[n, num_classes]`: above 0 on the side of the class."""
        return np.asarray(features, np.float32) @ self.weights[:, :-1].T + self.weights[:, -1]

    def save(self, path: str | Path) -> None:
        """Writes the weights as `.npz`."""
        with write_atomically(path) as partial, partial.open("wb") as file:
            np.savez(file, weights=self.weights)

    @classmethod
    def load(cls, path: str | Path) -> RegionSvms:
        """Reads what `save` wrote."""
        with np.load(path) as stored:
            return cls(weights=stored["weights"])


def fit_region_svms(
    model: Rcnn,
    photographs: BoxedPhotographs,
    proposals: Sequence[np.ndarray],
    recipe: RcnnRecipe,
    *,
    progress: Progress | None = None,
) -> RegionSvms:
    """Trains a linear SVM a class: its objects against proposals that hardly touch any of them.

    The difference to the released code: the loss is the squared hinge, as `fit_linear_svms` has
    it, and all classes share one cache of negatives.

    Args:
        model: fine-tuned.
        photographs: objects that are not difficult are learnt.
        proposals: of each, float32 `[n, 4]`, edges in pixels.
        recipe: says which are negatives, and how many are kept.
        progress: called with (photographs done, photographs in all), for the pass over proposals.

    Raises:
        ValueError: if there is no object or no proposal.

    Reference:
        Girshick et al. 2014, section 2.3 and appendix B.
    """
    easy = [boxes[~difficult] for boxes, _, difficult in photographs.objects]
    found = describe_regions(model, photographs.manifest, easy, recipe)
    positives = np.concatenate([one["features"] for one in found])
    names = [classes[~difficult] for _, classes, difficult in photographs.objects]
    miner = HardNegatives(positives, np.concatenate(names), len(photographs.class_names), recipe)
    described = describe_regions(model, photographs.manifest, proposals, recipe, progress=progress)
    for one, boxes, objects in zip(described, proposals, photographs.objects, strict=True):
        # Difficult objects are not learnt, but are no negatives either.
        overlaps = class_overlaps(boxes, *objects[:2], len(photographs.class_names))
        miner.add(one["features"], overlaps >= recipe.svm_overlap)
    return miner.finish()


def class_overlaps(
    boxes: np.ndarray, objects: np.ndarray, classes: np.ndarray, num_classes: int
) -> np.ndarray:
    """Gives how much each box overlaps the objects of each class at most: `[n, num_classes]`."""
    overlaps = box_overlaps(boxes, objects)
    highest = np.zeros((len(overlaps), num_classes))
    for column, number in enumerate(classes):
        highest[:, number] = np.maximum(highest[:, number], overlaps[:, column])
    return highest


class HardNegatives:
    """Trains SVMs on negatives that come bit by bit, of which it keeps those that matter.

    It holds up to `svm_cache + svm_refresh` negatives, and those of one photograph.

    Args:
        positives: float32 `[n, num_features]`.
        classes: int `[n]`, of each.
        num_classes: classes are 0 to this, exclusive.
        recipe: the SVMs' settings.

    Raises:
        ValueError: if there is no positive.
    """

    def __init__(
        self, positives: np.ndarray, classes: np.ndarray, num_classes: int, recipe: RcnnRecipe
    ) -> None:
        if not len(positives):
            raise ValueError("There must be objects to learn. Received: none that is not difficult")
        self._present, ids = np.unique(classes, return_inverse=True)
        self._positives = np.repeat(positives, _POSITIVE_COPIES, axis=0)
        self._ids = np.repeat(ids, _POSITIVE_COPIES)
        self._num_classes, self._recipe = num_classes, recipe
        self._rows = [np.zeros((0, positives.shape[1]), np.float32)]
        self._excluded = [np.zeros((0, len(self._present)), bool)]
        self._num_new, self._scale = 0, 0.0
        self._svms: RegionSvms | None = None

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def add(self, features: np.ndarray, excluded: np.ndarray) -> None:
        """Keeps the negatives that are hard for a class, and solves again after enough of them.

        Args:
            features: float32 `[n, num_features]`.
            excluded: bool `[n, num_classes]`: where one is no negative of the class.
        """
        excluded = excluded[:, self._present]
        is_hard = self._hardness(features, excluded) > _HARD
        self._rows.append(np.asarray(features, np.float32)[is_hard])
        self._excluded.append(excluded[is_hard])
        self._num_new += int(is_hard.sum())
        if self._num_new >= self._recipe.svm_refresh:
            self._solve()

    def finish(self) -> RegionSvms:
        """Solves with what is left, and gives the classifiers."""
        if self._svms is None or self._num_new:
            self._solve()
        weights = np.zeros((self._num_classes, self._positives.shape[1] + 1), np.float32)
        weights[:, -1] = _NEVER
        weights[self._present] = self._svms.weights  # type: ignore[union-attr]
        return RegionSvms(weights=weights)

    def _hardness(self, features: np.ndarray, excluded: np.ndarray) -> np.ndarray:
        """Gives the highest score of any class of which each is a negative."""
        if self._svms is None:
            scores = np.zeros(excluded.shape, np.float32)
        else:
            scores = self._svms.decision_function(features)
        return np.where(excluded, -np.inf, scores).max(axis=1)

    def _solve(self) -> None:
        rows, excluded = np.concatenate(self._rows), np.concatenate(self._excluded)
        if not len(rows):
            raise ValueError(
                "There must be proposals that are negatives of a class. Received: none"
            )
        if not self._scale:
            # The first negatives are all proposals of the first photographs, easy and hard.
            norm = float(np.linalg.norm(rows, axis=1).mean())
            self._scale = self._recipe.svm_norm / max(norm, 1e-6)
        # An intercept's feature of 10 is the same as features of a tenth and 100 times the loss.
        scale = self._scale / _INTERCEPT
        found = fit_linear_svms(
            self._positives * scale,
            self._ids,
            rows * scale,
            C=self._recipe.svm_c * _INTERCEPT**2,
            excluded=np.argwhere(excluded),
        )
        self._svms = RegionSvms(weights=found.weights * np.append(np.full(rows.shape[1], scale), 1))
        self._keep(rows, excluded)

    def _keep(self, rows: np.ndarray, excluded: np.ndarray) -> None:
        """Drops easy negatives, and the easiest where there are too many."""
        hardness = self._hardness(rows, excluded)
        order = np.argsort(-hardness, kind="stable")[: self._recipe.svm_cache]
        kept = np.sort(order[hardness[order] > _EASY])
        self._rows, self._excluded, self._num_new = [rows[kept]], [excluded[kept]], 0
