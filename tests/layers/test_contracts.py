"""What all layers promise: configuration, symbolic calls, pipelines, policies."""

import numpy as np
import pytest

from keras_ctxattr import layers
from tests import contracts

GENERATOR = np.random.default_rng(0)
PATCHES = GENERATOR.uniform(0, 255, (4, 16, 16, 3)).astype("float32")
BYTES = GENERATOR.integers(0, 256, (4, 16, 16, 3), np.uint8)
# Gradients, since noise would magnify how positions between pixels are rounded.
GRADIENTS = np.stack([np.add.outer(7 * np.arange(16), 5 * np.arange(16)) + n for n in range(12)])
GRADIENTS = np.moveaxis(GRADIENTS.reshape(4, 3, 16, 16), 1, -1).astype("uint8")
ACTIVATIONS = GENERATOR.uniform(0, 300, (2, 9, 6, 8)).astype("float32")
FEATURES = GENERATOR.uniform(0, 9, (6, 10)).astype("float32")
CUTTING = (
    GENERATOR.integers(0, 256, (2, 700, 3), np.uint8),
    np.array([[20, 33], [30, 21]], np.int32),
    np.array([[0, 2, 3], [1, 7, 1], [0, 8, 9]], np.int32),
)
CANVASES = (BYTES, np.array([[16, 9], [12, 16], [16, 16], [5, 5]], np.int32))
REGIONS = (
    ACTIVATIONS,
    np.array(
        [[[0, 0, 96, 144], [20, 36, 41, 99]], [[5, 5, 60, 40], [90, 130, 96, 144]]], "float32"
    ),
)
WARPING = (
    *CUTTING[:2],
    np.array([[1, 2, 20, 15.5], [30, 3, 10, 40], [-9, 8, 12, 13]], "float32"),
    np.array([0, 0, 1], np.int32),
)
INSIDE = (GENERATOR.uniform(size=(4, 16, 16, 1)) < 0.7).astype("float32")
TRAINING = {"training": True}

# name: (how to make the layer, its inputs, options of the call). No argument is a default.
CASES = {
    "ceil_pooling": (lambda: layers.CeilMaxPooling2D(name="pool"), [ACTIVATIONS], {}),
    "fragments": (lambda: layers.MapFragments2D(3, name="fragments"), [ACTIVATIONS], {}),
    "joined": (lambda: layers.JoinedFragments2D(1, name="joined"), [ACTIVATIONS], {}),
    "lrn": (lambda: layers.LocalResponseNormalization(3, 2e-4, name="lrn"), [ACTIVATIONS], {}),
    "within_channel": (
        lambda: layers.WithinChannelNormalization(5, 0.2, 0.5, "valid", name="within"),
        [ACTIVATIONS],
        {},
    ),
    "contrast": (lambda: layers.ContrastNormalization(True, name="contrast"), [PATCHES], {}),
    "scaling": (lambda: layers.FeatureScaling(0.9, name="scaling"), [FEATURES], {}),
    "dropout": (
        lambda: layers.SynchronizedDropout(0.4, seed=5, name="drop"),
        [ACTIVATIONS],
        TRAINING,
    ),
    "mean": (lambda: layers.MeanSubtraction((1, 2, 3), name="mean"), [PATCHES], {}),
    "projection": (lambda: layers.ColourProjection(name="projection"), [PATCHES], {}),
    "dropping": (lambda: layers.ColourDropping("gaussian", seed=1, name="drop"), [PATCHES], {}),
    "downsampling": (
        lambda: layers.RandomDownsampling(0.9, 3, seed=2, name="down"),
        [PATCHES],
        TRAINING,
    ),
    "canvases": (
        lambda: layers.CanvasProcessing("released", "project", (9, 8, 7), name="canvases"),
        CANVASES,
        {},
    ),
    "crops": (
        lambda: layers.CropProcessing("released", "project", (9, 8, 7), name="crops"),
        [PATCHES, INSIDE],
        {},
    ),
    "warping": (lambda: layers.RegionWarping(12, 2, name="warping"), WARPING, {}),
    "regions": (lambda: layers.RegionMaxPooling2D(3, 15, 2, 40, name="regions"), REGIONS, {}),
    "cutter": (lambda: layers.PatchCutter(12, 3, seed=3, name="cutter"), CUTTING, {}),
    "released": (
        lambda: layers.PatchProcessing("released", "drop", 0.8, seed=4, name="processing"),
        [BYTES],
        TRAINING,
    ),
    "paper": (
        lambda: layers.PatchProcessing("paper", "drop", 0.7, (9, 8, 7), 5, name="processing"),
        [BYTES],
        TRAINING,
    ),
    "transformation": (
        lambda: layers.RandomTransformation(
            0.1, 1.2, 10.0, 1.5, 0.05, 1.6, 20.0, 0.4, seed=6, name="transformation"
        ),
        [GRADIENTS],
        TRAINING,
    ),
    "projected": (
        lambda: layers.PatchProcessing("released", "project", 0.0, name="processing"),
        [BYTES],
        {},
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_every_public_layer_is_held_to_the_contracts():
    covered = {type(make_layer()).__name__ for make_layer, _, _ in CASES.values()}
    # Layers with weights are held to their base classes: test_convolution.py, test_synchronized.py.
    with_weights = {"SmallMapConv2D", "SynchronizedBatchNormalization"}
    assert covered == set(layers.__all__) - with_weights


def test_layer_survives_its_config(case):
    make_layer, inputs, options = case
    contracts.assert_survives_its_config(make_layer, inputs, **options)


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_symbolic_call_tells_shape_and_dtype(case, policy):
    make_layer, inputs, options = case
    with contracts.dtype_policy(policy):
        contracts.assert_symbolic_call_tells_shape_and_dtype(make_layer, inputs, **options)


def test_layer_leaves_its_inputs_alone(case):
    make_layer, inputs, options = case
    contracts.assert_leaves_its_inputs_alone(make_layer, inputs, **options)


def test_layer_works_in_a_pipeline(case):
    make_layer, inputs, options = case
    contracts.assert_works_in_a_pipeline(make_layer, inputs, **options)


def test_layer_works_in_a_functional_model_with_unknown_batch_size(case):
    make_layer, inputs, options = case
    contracts.assert_works_in_a_functional_model(make_layer, inputs, **options)


def test_layer_has_nothing_to_train(case):
    make_layer, inputs, options = case
    layer = make_layer()
    layer(*inputs, **options)
    assert layer.trainable_variables == []


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_patches_are_processed_in_float32_under_every_policy(case, policy):
    make_layer, inputs, options = case
    works_on_activations = inputs[0] is ACTIVATIONS
    with contracts.dtype_policy(policy):
        layer = make_layer()
        dtypes = {dtype for _, dtype in contracts.describe(layer(*inputs, **options))}
    if isinstance(layer, layers.PatchCutter):
        assert dtypes == {"uint8"}
    elif isinstance(layer, layers.RegionMaxPooling2D):
        assert dtypes == {"float32"}  # that of its maps
    elif works_on_activations:
        assert dtypes == {layer.compute_dtype}
    else:
        assert dtypes == {"float32"}
