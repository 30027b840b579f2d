"""Our networks as what keras-hub's detectors stand on. This file needs keras-hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras_hub.models import FeaturePyramidBackbone


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ContextPyramid(FeaturePyramidBackbone):
    """Maps of a network at several sizes of cells, for the detectors of keras-hub.

    Each place of a map is divided by the root mean square of its channels, and every channel gets
    a learnt factor: maps from before and after the network's normalised layers differ in size 25
    times, and the largest would drown the others where the pyramid adds them.

    Call arguments:
        images: float32 `[batch, height, width, 3]`, as `processing` leaves photographs.

    Returns:
        dict of float `[batch, rows, columns, channels]`: `"P3"` has cells 8 pixels apart, `"P4"` 16
        and so on.

    Args:
        network: `keras.Model` from images to a list of maps.
        levels: level of each map.
        processing: what brings photographs to it: arguments of `CanvasProcessing`. It is kept for
            whoever loads the detector.
        dtype: policy of the normalisation.
        **kwargs: passed on to `FeaturePyramidBackbone`.

    Reference:
        Liu, Rabinovich, Berg 2015, "ParseNet", section 3.3, for the normalisation.
    """

    def __init__(
        self,
        network: keras.Model,
        levels: tuple[int, ...] = (3, 4, 5),
        processing: Mapping[str, Any] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        images = keras.Input((None, None, 3), name="images")
        maps = {
            f"P{level}": keras.layers.RMSNormalization(name=f"norm_P{level}", dtype=dtype)(one)
            for level, one in zip(levels, network(images), strict=True)
        }
        super().__init__(inputs=images, outputs=maps, dtype=dtype, **kwargs)
        self.network = network
        self.levels = tuple(levels)
        self.processing = dict(processing or {})
        self.pyramid_outputs = maps

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "levels": self.levels,
            "processing": self.processing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ContextPyramid:
        """Makes a pyramid from `get_config`'s result."""
        network = config["network"]
        if isinstance(network, dict):
            network = keras.saving.deserialize_keras_object(network)
        return super().from_config({**config, "network": network})
