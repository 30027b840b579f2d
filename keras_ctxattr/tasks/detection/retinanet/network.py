"""RetinaNets on our networks: built, started, written and read."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_ctxattr.backbones.conversion import pyramid_parts
from keras_ctxattr.backbones.precision import dtype_policy, resolve_policy
from keras_ctxattr.export.onnx_file import MissingPackageError
from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe
from keras_ctxattr.tasks.detection.starting import draw_weights
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, under_policy

if TYPE_CHECKING:
    from keras_hub.models import RetinaNetBackbone, RetinaNetObjectDetector

_BOXES = "xyxy"
_LAST_LEVEL = 5  # of the maps of the network itself; the pyramid makes coarser ones
_PRIOR = 0.01  # probability of each class at the start, as Lin et al. have it
# Of the layers before, as keras-hub has it. Their results are normalised, so it only sets how far a
# step of Adam turns them: from 3/5 of it, and without warm-up, the small recipe needed twice the
# steps.
_STDDEV = 0.05
_LAST_STDDEV = 0.01  # of the heads' last weights at the start, likewise


def check_keras_hub() -> None:
    """Fails unless keras-hub is installed.

    Raises:
        MissingPackageError: If it is not.
    """
    try:
        import keras_hub  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "RetinaNet needs keras-hub; pip install 'keras_ctxattr[detection]'. "
            f"Received: no keras_hub ({error})"
        ) from error


def build_retinanet(
    network: FeatureNetwork,
    num_classes: int,
    recipe: RetinaNetRecipe | None = None,
    *,
    transfer: bool = True,
    seed: int = 0,
) -> RetinaNetObjectDetector:
    """Gives a new, compiled RetinaNet that starts from a network.

    It takes float32 `[batch, side, side, 3]`, as `retinanet_batches` gives them, and has no
    preprocessor of its own.

    Args:
        network: To start from; a copy is trained, without batch normalisation.
        num_classes: Of what is looked for.
        recipe: Detector, loss and optimiser.
        transfer: Whether the network's weights are kept; else only its structure is.
        seed: Of fresh weights; it also sets the seeds of Python, numpy and TensorFlow.

    Raises:
        MissingPackageError: If keras-hub is not installed.
        ValueError: If the network cannot be taken apart, or has no maps of these sizes.

    Reference:
        Lin, Goyal, Girshick, He, Dollar 2017, "Focal loss for dense object detection".
    """
    check_keras_hub()
    from keras_hub.models import RetinaNetObjectDetector

    recipe = recipe or RetinaNetRecipe()
    keras.utils.set_random_seed(seed)
    # The heads follow the backbone's policy. All that has to do with boxes follows the global one,
    # and must be float32: in bfloat16 an edge at 300 pixels is rounded to 2.
    with dtype_policy("float32"):
        backbone = _make_backbone(_take_maps(network, recipe, transfer, seed), network, recipe)
        model = RetinaNetObjectDetector(
            backbone,
            num_classes,
            bounding_box_format=_BOXES,
            anchor_generator=_make_anchors(recipe),
            use_prediction_head_norm=True,
            pre_logits_num_conv_layers=recipe.head_layers,
            preprocessor=None,
        )
    _start_heads(model)
    _compile(model, recipe)
    return model


def load_retinanet(path: str | Path) -> RetinaNetObjectDetector:
    """Reads a RetinaNet that `model.save` wrote, to detect with.

    It is not compiled: keras-hub's detectors write no loss and read no state of an optimiser. To go
    on training, restore a checkpoint of the run into what `build_retinanet` gives.

    Raises:
        MissingPackageError: If keras-hub is not installed.
    """
    check_keras_hub()
    # Keras finds the classes once they are imported.
    import keras_ctxattr.tasks.detection.retinanet.pyramid  # noqa: F401

    with dtype_policy("float32"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return keras.saving.load_model(path, compile=False)


def _levels(recipe: RetinaNetRecipe) -> tuple[int, ...]:
    return tuple(range(recipe.min_level, _LAST_LEVEL + 1))


def _take_maps(
    network: FeatureNetwork, recipe: RetinaNetRecipe, transfer: bool, seed: int
) -> keras.Model:
    """Gives a network of one's own from images to the maps of the levels."""
    if network.whole is None:
        raise ValueError(
            "A network for RetinaNet must be one that can be taken apart, for its maps of several "
            f"sizes: a module of ours, a run or a .keras file. Received: {network.name}"
        )
    maps = pyramid_parts(network.whole, [2**level for level in _levels(recipe)])
    if not transfer:
        draw_weights(maps, seed)
    return maps


def _make_backbone(
    maps: keras.Model, network: FeatureNetwork, recipe: RetinaNetRecipe
) -> RetinaNetBackbone:
    from keras_hub.models import RetinaNetBackbone

    from keras_ctxattr.tasks.detection.retinanet.pyramid import ContextPyramid

    policy = resolve_policy(recipe.dtype_policy)
    pyramid = ContextPyramid(
        under_policy(maps, policy),
        _levels(recipe),
        network.processing,
        dtype=policy,
        name="pyramid",
    )
    return RetinaNetBackbone(
        pyramid,
        min_level=recipe.min_level,
        max_level=recipe.max_level,
        use_p5=True,
        dtype=policy,
    )


def _make_anchors(recipe: RetinaNetRecipe) -> Any:
    from keras_hub.layers import AnchorGenerator

    return AnchorGenerator(
        _BOXES,
        min_level=recipe.min_level,
        max_level=recipe.max_level,
        num_scales=3,
        aspect_ratios=[0.5, 1.0, 2.0],
        anchor_size=recipe.anchor_size,
    )


def _start_heads(model: RetinaNetObjectDetector) -> None:
    """Gives the heads fresh weights, the last ones as the paper starts them.

    keras-hub 0.32 hands the prior of the classes to the boxes' head: every anchor would start as a
    box of a hundredth of its size, and every class at even odds. And all layers of a head share one
    initialiser, which gives each the same weights.
    """
    starts = ((model.box_head, 0.0), (model.classification_head, -math.log(1 / _PRIOR - 1)))
    for head, bias in starts:
        for layer in head.conv_layers:
            layer.kernel.assign(keras.random.normal(layer.kernel.shape, stddev=_STDDEV))
        last = head.prediction_layer
        last.kernel.assign(keras.random.normal(last.kernel.shape, stddev=_LAST_STDDEV))
        last.bias.assign(np.full(last.bias.shape, bias, "float32"))


def _compile(model: RetinaNetObjectDetector, recipe: RetinaNetRecipe) -> None:
    optimizer = keras.optimizers.Adam(recipe.learning_rate, global_clipnorm=recipe.gradient_norm)
    if resolve_policy(recipe.dtype_policy) == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss_weights={"bbox_regression": recipe.box_weight, "cls_logits": 1.0},
        jit_compile=False,
    )
