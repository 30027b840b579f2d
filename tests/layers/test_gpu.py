"""The patch layers and a training step on a GPU: placed there, and the same as on the processor.

Draws are switched off where results are compared: a compiler may draw other numbers than kernels.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from keras_ctxattr.backbones import compact
from keras_ctxattr.context.predictor import ContextPredictor
from tests.contracts import dtype_policy

FIRST_GPU, PROCESSOR = "/GPU:0", "/CPU:0"
# Cutting gathers uint8, for which TensorFlow 2.21 has no GPU kernel of its own: XLA compiles it,
# which Keras switches on where there is a GPU. Without XLA this one op runs on the processor.
COMPILED_ONLY = {("GatherV2", "uint8")}


@pytest.fixture
def gpu():
    """Skips the test without a GPU; else computes in full float32, as the processor does."""
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("there is no GPU")
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield FIRST_GPU
    tf.config.experimental.enable_tensor_float_32_execution(before)


def grid_batch():
    """Gives 3 x 3 patches of two images each, with all pairs of neighbours, and their padding."""
    side = 400
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (2, 50, 50, 3)).astype("float32")
    images = tf.cast(tf.image.resize(coarse, [side, side], "bicubic"), tf.uint8).numpy()
    places = [(row, column) for row in range(3) for column in range(3)]
    corners = [
        (image, 8 + 144 * row, 8 + 144 * column) for image in (0, 1) for row, column in places
    ]
    pairs = [
        (9 * image + first, 9 * image + second, position)
        for image in (0, 1)
        for first, (row, column) in enumerate(places)
        for position, step in enumerate(
            [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
        )
        if (row + step[0], column + step[1]) in places
        for second in [places.index((row + step[0], column + step[1]))]
    ]
    padding = [(0, 0, 0)] * 4
    return {
        "canvases": images.reshape(2, side * side, 3),
        "sizes": np.array([[side, side]] * 2, np.int32),
        "corners": np.array(corners, np.int32),
        "pairs": np.array(pairs + padding, np.int32),
        "pair_mask": np.arange(len(pairs) + 4) < len(pairs),
        "seed": np.array([1, 2], np.int32),
    }


def make_predictor(*, draws: bool, jit_compile: bool = False, rate: float = 0.01):
    keras.utils.set_random_seed(0)
    still = {} if draws else {"colour": "project", "jitter": 0, "downsampling": 0.0}
    model = ContextPredictor(compact(width=8, num_features=16), hidden_units=16, **still)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer=optimizer, jit_compile=jit_compile)
    return model


def train(device, num_steps=3, jit_compile=False, **options):
    """Gives a model after some steps on a device, its losses, and its processed patches."""
    with tf.device(device):
        model = make_predictor(draws=False, jit_compile=jit_compile)
        model.optimizer.build(model.trainable_variables)
        batch = {name: tf.constant(value) for name, value in grid_batch().items()}
        step = tf.function(model.train_step, jit_compile=jit_compile)
        look = tf.function(model.process_patches, jit_compile=jit_compile)
        patches = look(batch, training=False)
        losses = []
        for _ in range(num_steps):
            losses.append(float(step(batch)["loss"]))
            model.reset_metrics()
    return model, losses, patches


def check_same_training(device, reference, jit_compile):
    """Asserts that training on two devices gives the same patches, losses and weights."""
    model, losses, patches = train(device, jit_compile=jit_compile)
    expected, expected_losses, expected_patches = train(reference)
    assert tf.DeviceSpec.from_string(patches.device).device_type == device.strip("/").split(":")[0]
    np.testing.assert_allclose(patches, expected_patches, atol=1e-2)  # of 0-255
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-3)
    assert losses[-1] < losses[0] > 0
    fresh = make_predictor(draws=False)
    weights = zip(model.weights, expected.weights, fresh.weights, strict=True)
    num_changed = 0
    for weight, other, first in weights:
        if "seed_generator" in weight.path:
            continue
        found, there = np.asarray(weight, "float64"), np.asarray(other, "float64")
        scale = max(np.abs(there).max(), 1e-3)
        assert np.abs(found - there).max() <= 2e-3 * scale, weight.path
        # The steps made a difference that is larger than the one between the devices.
        changed = np.abs(there - np.asarray(first, "float64")).max()
        num_changed += changed > 4 * np.abs(found - there).max()
    assert num_changed > len(fresh.trainable_variables) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("jit_compile", [True, False])
def test_training_steps_on_a_gpu_are_those_of_the_processor(gpu, jit_compile):
    check_same_training(gpu, PROCESSOR, jit_compile)


def test_the_comparison_itself_holds_on_the_processor():
    check_same_training(PROCESSOR, PROCESSOR, jit_compile=False)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_learns_on_a_gpu(gpu, policy):
    check_half_precision(gpu, policy)


def check_half_precision(device, policy):
    """Asserts that `fit` under a policy learns one batch by heart, with every draw switched on."""
    with tf.device(device), dtype_policy(policy):
        model = make_predictor(draws=True, jit_compile="auto")
    batches = tf.data.Dataset.from_tensors(grid_batch()).repeat()
    with tf.device(device):
        history = model.fit(batches, steps_per_epoch=6, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert 0 < history["loss"][-1] < history["loss"][0]
    assert model.backbone.compute_dtype == policy.removeprefix("mixed_")
    assert all(weight.dtype == "float32" for weight in model.trainable_variables)
    # The first steps may overflow float16 and be left out, the later ones not.
    assert int(model.optimizer.iterations) >= 12


# ---- what runs where, without a GPU --------------------------------------------------------------


def has_gpu_kernel(node):
    """Whether TensorFlow has a kernel for a node's op and types on a GPU."""
    found = kernels.get_registered_kernels_for_op(node.op).kernel
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(
            node.attr[limit.name].type in limit.allowed_values.list.type
            for limit in kernel.constraint
            if limit.name in node.attr
        )
        for kernel in found
    )


def test_every_op_of_a_training_step_can_run_on_a_gpu():
    if not has_gpu_kernel(tf.compat.v1.NodeDef(op="MatMul", attr={})):
        pytest.skip("this TensorFlow was built without GPU kernels")
    batch = grid_batch()
    models = {
        preset: ContextPredictor(compact(width=4, num_features=8), preset=preset, hidden_units=8)
        for preset in ("released", "paper")
    }
    models["released"].compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    models["released"].optimizer.build(models["released"].trainable_variables)
    functions = [
        tf.function(models["released"].train_step).get_concrete_function(batch),
        tf.function(models["released"].process_patches).get_concrete_function(
            {
                **batch,
                "corners": batch["corners"][:18],
                "seed": np.array([[1, 2], [3, 4]], np.int32),
            },
            training=True,
        ),
        tf.function(models["paper"].process_patches).get_concrete_function(batch, training=True),
    ]
    graphs = [function.graph.as_graph_def() for function in functions]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for one in graph.library.function for node in one.node_def]
    on_processor = {
        (node.op, tf.as_dtype(node.attr["Tparams"].type).name if "Tparams" in node.attr else "")
        for node in nodes
        if not has_gpu_kernel(node)
    }
    assert len(nodes) > 100
    assert on_processor <= COMPILED_ONLY
