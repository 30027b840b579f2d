"""The networks that an evaluation compares: a run's, the same untrained, and exported modules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_ctxattr.context.evaluation import backbone_function, untrained_backbone
from keras_ctxattr.context.training import load_predictor
from keras_ctxattr.export import read_module


def load_networks(
    run: Path | None, modules: Sequence[Path], seed: int
) -> tuple[dict[str, Callable[..., Any]], int]:
    """Gives each network's function from pixels to features, and the side of their patches.

    Args:
        run: run folder, shown as "this network" beside the same network "untrained"; or None.
        modules: folders of exported modules, which keep their names.
        seed: seed of the untrained weights.

    Returns:
        (functions from float32 `[batch, size, size, 3]` in [0, 1] to `[batch, num_features]`, by
        name; size in pixels).

    Raises:
        ValueError: if there is none, or they take patches of different sizes.
    """
    networks: dict[str, Callable[..., Any]] = {}
    sides = []
    if run:
        predictor = load_predictor(run)
        networks["this network"] = backbone_function(predictor)
        networks["untrained"] = backbone_function(predictor, untrained_backbone(predictor, seed))
        sides.append(predictor.cutter.patch_size)
    for folder in modules:
        sides.append(read_module(folder)["patch_size"])
        networks[str(folder)] = tf.saved_model.load(str(folder))
    if len(set(sides)) != 1:
        raise ValueError(f"All networks must take patches of one size. Received: {sides} pixels")
    return networks, sides[0]
