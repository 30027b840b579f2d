import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.context.aberration import (
    PositionConfig,
    PositionRegressor,
    SecondOrderPooling,
    add_lateral_aberration,
    position_batches,
    position_errors,
    position_network,
    predict_positions,
)
from keras_ctxattr.data.manifest import scan_images
from tests.evaluation.conftest import write_photo

SMALL = PositionConfig(images_per_batch=2, patches_per_image=4)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        write_photo(folder / f"{number}.png", number, side=260)
    return scan_images(folder)


def ramp(height, width):
    """An image whose pixels are their own coordinates: (row, row, column), from the centre."""
    rows, columns = np.mgrid[:height, :width].astype("float32")
    rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
    return np.stack([rows, rows, columns], -1)


def test_red_and_blue_move_outwards_by_strength_at_the_corners():
    height, width, strength = 120, 160, 5.0
    image = ramp(height, width)
    shifted = add_lateral_aberration(tf.constant(image), strength).numpy()
    # Magnified: at each place, the value that lay nearer to the centre.
    magnification = 1 + strength / np.hypot(height / 2, width / 2)
    inside = (slice(2, -2), slice(2, -2))  # a cubic kernel needs two pixels on each side
    for channel in (0, 2):
        np.testing.assert_allclose(
            shifted[inside][..., channel], image[inside][..., channel] / magnification, atol=0.02
        )
    np.testing.assert_array_equal(shifted[..., 1], image[..., 1])


def test_no_strength_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    np.testing.assert_array_equal(add_lateral_aberration(tf.constant(image), 0.0), image)


def test_uint8_stays_in_its_range():
    image = (np.indices((60, 60)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    shifted = add_lateral_aberration(tf.constant(image), 3.0)
    exact = add_lateral_aberration(tf.constant(image, tf.float32), 3.0)
    assert shifted.dtype == tf.uint8
    np.testing.assert_array_equal(shifted, np.clip(np.round(exact), 0, 255))


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_bad_strength_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        add_lateral_aberration(tf.zeros([8, 8, 3]), strength)


def test_projection_hides_the_shift_of_a_grey_image():
    photo = tf.image.resize(np.random.default_rng(1).uniform(0, 255, (12, 12, 1)), [96, 96])
    grey = tf.repeat(photo, 3, axis=-1)
    shifted = add_lateral_aberration(grey, 3.0)[None]
    plain = PositionRegressor("none").processing(shifted)
    hidden = PositionRegressor("project").processing(shifted)
    assert np.abs(plain[..., 1] - plain[..., 0]).max() > 1
    np.testing.assert_allclose(hidden[..., 1], hidden[..., 0], atol=1e-3)


def test_positions_are_where_the_patches_are(manifest):
    batch = next(iter(position_batches(manifest, PositionConfig(strength=0.0), num_steps=1)))
    height, width = np.asarray(batch["sizes"]).T[:, np.asarray(batch["corners"])[:, 0]]
    _, row, column = np.asarray(batch["corners"]).T
    np.testing.assert_allclose(batch["positions"][:, 0], (column + 48) / width, atol=1e-6)
    np.testing.assert_allclose(batch["positions"][:, 1], (row + 48) / height, atol=1e-6)
    assert (row + 96 <= height).all()
    assert (column + 96 <= width).all()


def test_batches_are_a_function_of_the_seed(manifest):
    def corners(seed):
        return np.stack(
            [b["corners"] for b in position_batches(manifest, SMALL, seed=seed, num_steps=2)]
        )

    first = corners(0)
    np.testing.assert_array_equal(first, corners(0))
    assert (first != corners(1)).any()
    assert (first[0] != first[1]).any()


def test_every_photograph_is_seen_once(manifest):
    config = PositionConfig(images_per_batch=1, patches_per_image=1, strength=0.0)
    batches = position_batches(manifest, config, num_steps=len(manifest))
    sums = {int(tf.reduce_sum(tf.cast(b["canvases"], tf.int64))) for b in batches}
    assert len(sums) == len(manifest)


def test_second_order_pooling_is_the_table_of_products():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    pooled = SecondOrderPooling()(values)
    flat = values.reshape(2, 12, 5)
    products = np.einsum("npi,npj->nij", flat, flat) / 12
    energy = np.square(flat).mean((1, 2))[:, None]
    rows, columns = np.triu_indices(5)
    np.testing.assert_allclose(pooled, products[:, rows, columns] / energy, rtol=1e-4)


def test_errors_by_hand():
    true = np.array([[[0.5, 0.5], [0.5, 0.9]], [[0.2, 0.5], [0.5, 0.5]]])
    values = position_errors(true, true + np.array([0.3, 0.4]), best_share=0.5)
    assert values["rmse"] == pytest.approx(0.5)
    assert values["rmse_best10"] == pytest.approx(0.5)
    assert values["rmse_centre"] == pytest.approx(np.sqrt((0.16 + 0.09) / 4))
    assert values["rmse_centre_best10"] == pytest.approx(np.sqrt(0.09 / 2))
    assert values["ratio"] == pytest.approx(values["rmse"] / values["rmse_centre"])


@pytest.mark.parametrize("colour", ["none", "project", "drop"])
def test_regressor_learns_and_reports_its_loss(manifest, colour):
    keras.utils.set_random_seed(0)
    model = PositionRegressor(colour, network=position_network(filters=4), seed=0)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=False)
    batches = position_batches(manifest, SMALL, num_steps=1).cache().repeat(12)
    losses = [model.fit(batches, verbose=0).history["loss"][0] for _ in range(2)]
    assert 0 < losses[1] < losses[0]


def test_it_starts_at_the_centre_and_survives_saving(manifest, tmp_path):
    batches = list(position_batches(manifest, SMALL, num_steps=1))
    model = PositionRegressor("project", network=position_network(filters=4))
    _, predicted = predict_positions(model, batches)
    np.testing.assert_allclose(predicted, 0.5)
    model.network.layers[-1].kernel.assign(
        np.random.default_rng(0).normal(size=model.network.layers[-1].kernel.shape)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["colour"] == "project"
    np.testing.assert_allclose(
        predict_positions(loaded, batches)[1], predict_positions(model, batches)[1], rtol=1e-5
    )
