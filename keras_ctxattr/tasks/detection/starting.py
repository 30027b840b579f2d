"""What a network to detect with starts from: transferred weights or fresh ones, rescaled or not."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_ctxattr.backbones.initialization import initialize_from_batches
from keras_ctxattr.runs.writing import json_types

FRESH = ("kmeans", "pca", "gaussian")
_MULTIPLIERS = ("gamma", "scale", "moving_variance")

NUM_BATCHES = 10  # that an initialisation looks at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """How weights begin.

    Attributes:
        transfer: whether the network's weights are kept; else it starts from scratch, with the same
            structure.
        rescale: whether all layers are calibrated on the training photographs, and fresh ones start
            from them (Kraehenbuehl et al. 2016); else fresh layers start Gaussian and transferred
            ones as folding left them.
        fresh: from what fresh layers start where they are calibrated: `"kmeans"`, `"pca"` or
            `"gaussian"`.

    Raises:
        ValueError: if `fresh` is unknown.
    """

    transfer: bool = True
    rescale: bool = True
    fresh: str = "kmeans"

    def __post_init__(self) -> None:
        """Checks the name."""
        if self.fresh not in FRESH:
            raise ValueError(f"`fresh` must be one of {FRESH}. Received: fresh={self.fresh!r}")


def rescale_network(
    network: keras.Model,
    batches: Iterable[dict[str, Any]],
    start: Start,
    transferred: Iterable[str],
    seed: int,
) -> dict[str, Any]:
    """Initialises fresh layers from batches, and calibrates all: changes the network's weights.

    Args:
        network: float32, without batch normalisation; its inputs are named.
        batches: as the network's inputs are named; more is ignored. The first ten are used.
        start: says how.
        transferred: names of the layers whose weights are kept, as far as `start` says so.
        seed: of the draws.

    Returns:
        How it went: `fresh`, where each new layer's filters are from; `rounds`, remaining `spread`,
        whether it `converged`, and the layers' `ratios`.

    Reference:
        Kraehenbuehl, Doersch, Donahue, Darrell 2016, section 4.
    """
    names = [tensor.name for tensor in network.inputs]
    chosen = [
        {name: np.asarray(batch[name]) for name in names}
        for batch, _ in zip(batches, range(NUM_BATCHES), strict=False)
    ]
    report = initialize_from_batches(
        network,
        chosen,
        transferred=tuple(transferred) if start.transfer else (),
        method=start.fresh,
        seed=seed,
    )
    told: dict[str, Any] = {"fresh": dict(report.methods)}
    calibration = report.calibration
    if calibration is not None:
        told |= {"rounds": calibration.num_rounds, "spread": calibration.spread}
        told |= {"converged": calibration.converged, "ratios": dict(calibration.ratios_after)}
    return json_types(told)


def draw_weights(part: keras.Model, seed: int) -> None:
    """Gives a network the weights that those of `keras_ctxattr.backbones` start with.

    Kernels are uniform in +-sqrt(3 / fan_in); what multiplies channels (`gamma`, `scale`, a running
    variance) is 1; biases, and all else that has one axis, are 0, and so is the slope of a PReLU.
    """
    generator = np.random.default_rng(seed)
    for variable in part.weights:
        shape, name = tuple(variable.shape), variable.path.rpartition("/")[2]
        if name in _MULTIPLIERS:
            variable.assign(np.ones(shape, np.float32))
        elif len(shape) > 1 and name != "alpha":
            bound = np.sqrt(3 / np.prod(shape[:-1]))
            variable.assign(generator.uniform(-bound, bound, shape).astype(np.float32))
        else:
            variable.assign(np.zeros(shape, np.float32))


def weights_digest(model: keras.Model) -> str:
    """Tells these weights from others: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable, np.float32).tobytes())
    return digest.hexdigest()
