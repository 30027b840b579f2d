"""How much of a patch's place frozen features give away: a ridge regression from one to the other.

Beside `keras_ctxattr.context.aberration`, whose regressors read colours with a network of their
own, this asks what a network that was trained for something else makes of them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_ctxattr.context.evaluation import describe_patches
from keras_ctxattr.layers import PatchCutter

_PENALTIES = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5)  # of features of unit variance
_MAX_FOLDS = 3


class FeaturePositions:
    """Tells from the features of a patch, brought to length 1, where in its image it was.

    Args:
        describe: from float32 `[batch, size, size, 3]` in [0, 1] to `[batch, num_features]`.
        patch_size: side of a patch in pixels.

    Attributes:
        penalty: of the ridge regression, chosen by cross-validation over photographs.
    """

    def __init__(self, describe: Callable[..., Any], patch_size: int = 96) -> None:
        self._describe = describe
        self._cutter = PatchCutter(patch_size, jitter=0)
        self.penalty = 0.0

    def fit(self, batches: Iterable[dict[str, Any]]) -> "FeaturePositions":
        """Learns from batches as `position_batches` gives them, one image a batch.

        Raises:
            ValueError: if there are fewer than two images.
        """
        pairs = [(self._features(batch), np.asarray(batch["positions"])) for batch in batches]
        if len(pairs) < 2:
            raise ValueError(
                "At least 2 photographs are needed to learn places from features. "
                f"Received: {len(pairs)}"
            )
        features, positions = (np.concatenate(side) for side in zip(*pairs, strict=True))
        images = np.repeat(np.arange(len(pairs)), [len(places) for _, places in pairs])
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Ridge()),
            {"ridge__alpha": _PENALTIES},
            scoring="neg_mean_squared_error",
            # Patches of one photograph overlap: a fold has all of them or none.
            cv=GroupKFold(min(_MAX_FOLDS, len(pairs))),
        )
        search.fit(features, positions, groups=images)
        self._regression = search.best_estimator_
        self.penalty = float(search.best_params_["ridge__alpha"])
        return self

    def __call__(self, batch: dict[str, Any], training: bool = False) -> np.ndarray:
        """Gives float32 `[patches, 2]`, (x, y) as fractions of the image's width and height."""
        # Nothing lies outside the image; a patch unlike all others can be put far outside.
        return np.clip(self._regression.predict(self._features(batch)), 0, 1).astype(np.float32)

    def _features(self, batch: dict[str, Any]) -> np.ndarray:
        patches = self._cutter(batch["canvases"], batch["sizes"], batch["corners"])
        return describe_patches(self._describe, np.asarray(patches))
