"""The network of normals: each pixel gets what the map has there, of length 1, in float32."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ctxattr.layers import CanvasProcessing
from keras_ctxattr.tasks.detection.transfer import FeatureNetwork, measure_map
from keras_ctxattr.tasks.normals.layers import MapResizing, PhotographProcessing, UnitLength
from keras_ctxattr.tasks.normals.network import NormalsLearner, normals_network
from keras_ctxattr.tasks.normals.recipe import NormalsRecipe
from tests import contracts

RECIPE = NormalsRecipe(head_widths=(6,), dtype_policy="float32")


def tiny_features(pool=4, preset="none"):
    """Gives a network of one convolution and a pooling that its cells divide."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    maps = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.AveragePooling2D(pool)(maps))
    stride, offset = measure_map(model)
    return FeatureNetwork(
        name="tiny",
        model=model,
        whole=model,
        processing={"preset": preset},
        stride=stride,
        offset=offset,
    )


def coordinates(height, width):
    """An image whose pixels are their own row and column."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, rows * 0], axis=-1)[None].astype(np.float32)


@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_what_the_map_says_of_a_place_comes_to_that_place(stride, padding):
    """The "features" are means of coordinates: interpolated, they are the coordinates again."""
    images = coordinates(64, 96)
    inputs = keras.Input((None, None, 3))
    pooled = layers.AveragePooling2D(stride, padding=padding)(inputs)
    model = keras.Model(inputs, pooled)
    stride, offset = measure_map(model)
    large = MapResizing(stride, offset)(model(images), images)
    inner = slice(int(stride), -int(stride))  # beyond the outermost centres it is constant
    np.testing.assert_allclose(large[0, inner, inner], images[0, inner, inner], atol=1e-3)


def test_an_offset_moves_the_map():
    """Cells that see pixels 10 to 13, 14 to 17, ...: four pixels each, the first ten unseen."""
    images = coordinates(64, 64)
    cells = layers.AveragePooling2D(4)(images[:, 10:-10, 10:-10])
    large = MapResizing(4, 10)(cells, images)
    np.testing.assert_allclose(large[0, 12:52, 12:52], images[0, 12:52, 12:52], atol=1e-3)


def test_interpolation_equals_a_slow_restatement():
    maps = np.random.default_rng(0).normal(size=(1, 3, 5, 2)).astype(np.float32)
    photographs = np.zeros((1, 23, 37, 3), np.float32)
    large = np.asarray(MapResizing(7.5, 1.25)(maps, photographs))

    def cells_of(pixel, count):
        place = min(max((pixel + 0.5 - 1.25) / 7.5 - 0.5, 0), count - 1)
        first = min(int(place), count - 2)
        return first, place - first

    for row in range(23):
        for column in range(37):
            (top, down), (left, across) = cells_of(row, 3), cells_of(column, 5)
            square = maps[0, top : top + 2, left : left + 2]
            expected = np.einsum("ijc,i,j->c", square, [1 - down, down], [1 - across, across])
            np.testing.assert_allclose(large[0, row, column], expected, atol=1e-5)


MAPS = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
PHOTOGRAPHS = np.random.default_rng(1).uniform(0, 255, (2, 12, 16, 3)).astype(np.float32)
LAYERS = {
    "resizing": (lambda: MapResizing(4.0, 0.5), [MAPS, PHOTOGRAPHS]),
    "unit": (UnitLength, [MAPS]),
    "processing": (
        lambda: PhotographProcessing("paper", "project", (1.0, 2.0, 3.0)),
        [PHOTOGRAPHS],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_their_contracts(name):
    make, inputs = LAYERS[name]
    contracts.assert_survives_its_config(make, inputs)
    contracts.assert_leaves_its_inputs_alone(make, inputs)
    contracts.assert_works_in_a_functional_model(make, inputs)
    for policy in contracts.POLICIES:
        with contracts.dtype_policy(policy):
            contracts.assert_symbolic_call_tells_shape_and_dtype(make, inputs)
            assert make()(*inputs).dtype == "float32"


def test_a_stride_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`stride` must be over 0. Received: stride=0"):
        MapResizing(0)


@pytest.mark.parametrize("preset", ["released", "paper", "unit", "none"])
def test_photographs_are_processed_as_canvases_that_they_fill(preset):
    sizes = np.array([[12, 16]] * 2, np.int32)
    expected = CanvasProcessing(preset)(PHOTOGRAPHS, sizes)
    found = PhotographProcessing(preset)(PHOTOGRAPHS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_vectors_of_no_length_have_finite_gradients():
    vectors = tf.Variable([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    with tf.GradientTape() as tape:
        outputs = UnitLength()(vectors)
        total = tf.reduce_sum(outputs)
    np.testing.assert_allclose(outputs, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    assert np.isfinite(tape.gradient(total, vectors)).all()


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_normals_have_the_photographs_size_and_length_1(policy):
    network = normals_network(tiny_features(), RECIPE, policy=policy)
    for shape in ((1, 40, 64, 3), (2, 33, 47, 3)):
        photographs = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        normals = network(photographs)
        assert normals.shape == shape and normals.dtype == "float32"
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, rtol=1e-5)


def test_training_begins_with_walls_seen_from_the_front():
    normals = normals_network(tiny_features(), RECIPE)(np.full((1, 16, 16, 3), 90, np.float32))
    assert np.asarray(normals)[..., 2].mean() < -0.5


def test_a_frozen_network_stays_as_it_is():
    recipe = dataclasses.replace(RECIPE, train_backbone=False)
    learner = compiled(normals_network(tiny_features(), recipe))
    before = [value.copy() for value in learner.network.get_weights()]
    learner.train_on_batch(*batch())
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(before, learner.network.get_weights(), strict=True)
    ]
    assert changed == [False] * 2 + [True] * 4  # the backbone's convolution, then the head's two


def compiled(network, **options):
    learner = NormalsLearner(network)
    learner.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False, **options)
    return learner


def batch():
    generator = np.random.default_rng(0)
    photographs = generator.integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    normals = np.zeros((2, 32, 40, 3), np.float16)
    normals[:, 4:28] = np.where(np.arange(40)[:, None] < 20, (0.6, 0, -0.8), (0, -1, 0))
    return photographs, normals


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_the_loss_falls_and_is_not_0(policy):
    with contracts.dtype_policy(policy):
        learner = compiled(normals_network(tiny_features(), RECIPE, policy=policy))
    photographs, normals = batch()
    photographs[:, :, 20:] //= 4  # so that it can be told
    losses = [
        learner.train_on_batch(photographs, normals, return_dict=True)["loss"] for _ in range(15)
    ]
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0] and losses[-1] > 0


def test_a_batch_without_a_valid_pixel_changes_nothing():
    learner = compiled(normals_network(tiny_features(), RECIPE))
    photographs, normals = batch()
    before = learner.network.get_weights()
    logs = learner.train_on_batch(photographs, normals * 0, return_dict=True)
    assert logs["loss"] == logs["angle"] == 0
    for one, other in zip(before, learner.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_pixel_of_an_epoch_weighs_the_same():
    """Two batches of unlike numbers of valid pixels score as both in one."""
    learner = compiled(normals_network(tiny_features(), RECIPE))
    photographs, normals = batch()
    normals[0, :20] = 0
    whole = learner.evaluate(photographs, normals, batch_size=2, verbose=0, return_dict=True)
    parts = learner.evaluate(photographs, normals, batch_size=1, verbose=0, return_dict=True)
    assert whole["loss"] > 0
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4)


def test_a_learner_survives_its_config():
    learner = NormalsLearner(normals_network(tiny_features(), RECIPE))
    copy = NormalsLearner.from_config(learner.get_config())
    copy.network.set_weights(learner.network.get_weights())
    photographs, _ = batch()
    np.testing.assert_array_equal(copy(photographs), learner(photographs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0}, r"`radius` must be at least 1.*radius=0"),
        ({"head_widths": ()}, r"there must be `head_widths`.*head_widths=\(\)"),
        ({"max_zoom": 0.5}, r"`max_zoom` must be at least 1.*max_zoom=0.5"),
        ({"colour_jitter": 1.0}, r"colour_jitter=1.0"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0"),
    ],
)
def test_impossible_recipes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NormalsRecipe(**settings)
