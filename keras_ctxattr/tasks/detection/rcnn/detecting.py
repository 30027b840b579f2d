"""What a trained R-CNN finds in photographs."""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.tasks.detection.formats import Detections
from keras_ctxattr.tasks.detection.rcnn.describing import Progress, describe_regions
from keras_ctxattr.tasks.detection.rcnn.network import Rcnn
from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe
from keras_ctxattr.tasks.detection.rcnn.svm import RegionSvms
from keras_ctxattr.tasks.detection.suppression import suppress


def detect_rcnn(
    model: Rcnn,
    manifest: Manifest,
    proposals: Sequence[np.ndarray],
    recipe: RcnnRecipe,
    classifier: RegionSvms | None = None,
    *,
    progress: Progress | None = None,
) -> list[Detections]:
    """Gives what is in each photograph: proposals as they are, scored and thinned out.

    Args:
        model: trained.
        manifest: the photographs.
        proposals: of each, float32 `[n, 4]`, edges in pixels of the upright photograph.
        recipe: as the model was trained with.
        classifier: SVMs on the model's features; its own softmax if None.
        progress: called with (photographs done, photographs in all).

    Returns:
        One for each photograph.

    Raises:
        ValueError: if there are not proposals of every photograph.

    Reference:
        Girshick et al. 2014, section 2.2; no box regression, as in Doersch, Gupta, Efros 2015.
    """
    described = describe_regions(model, manifest, proposals, recipe, progress=progress)
    min_score = recipe.min_score if classifier is None else recipe.min_svm_score
    return [
        suppress(
            np.asarray(boxes, np.float32).reshape(-1, 4),
            _score(outputs, classifier),
            min_score=min_score,
            max_overlap=recipe.max_overlap,
            max_per_image=recipe.max_detections,
        )
        for boxes, outputs in zip(proposals, described, strict=True)
    ]


def _score(outputs: dict[str, np.ndarray], classifier: RegionSvms | None) -> np.ndarray:
    """Gives float32 `[n, num_classes]`."""
    if classifier is not None:
        return classifier.decision_function(outputs["features"])
    return softmax(outputs["logits"], axis=1)[:, 1:]
