"""Local response normalisation within channels: against sums over squares, shapes, saving."""

import keras
import numpy as np
import pytest

from keras_ctxattr.layers import WithinChannelNormalization


def normalize_plainly(maps, size, alpha, beta):
    margin = size // 2
    padded = np.pad(maps, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    found = np.empty_like(maps)
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            square = padded[:, row : row + size, column : column + size]
            scale = 1 + alpha / size**2 * (square**2).sum(axis=(1, 2))
            found[:, row, column] = maps[:, row, column] * scale**-beta
    return found


@pytest.mark.parametrize(("size", "alpha", "beta"), [(3, 5e-5, 0.75), (5, 0.3, 0.5), (1, 2.0, 1.0)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_activations_are_divided_by_their_squares_around(size, alpha, beta, padding):
    maps = np.random.default_rng(0).normal(0, 20, (2, 7, 9, 3)).astype("float32")
    layer = WithinChannelNormalization(size, alpha, beta, padding)
    found = np.asarray(layer(maps))
    expected = normalize_plainly(maps.astype(float), size, alpha, beta)
    if padding == "valid" and size > 1:
        inside = slice(size // 2, -(size // 2))
        expected = expected[:, inside, inside]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert layer.compute_output_shape(maps.shape) == found.shape


def test_it_is_the_same_when_saved(tmp_path):
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, WithinChannelNormalization(5, 0.1, padding="valid")(inputs))
    model.save(tmp_path / "model.keras")
    maps = np.random.default_rng(1).normal(0, 1, (1, 8, 8, 2)).astype("float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(maps), model(maps))


@pytest.mark.parametrize("settings", [{"size": 2}, {"size": 0}, {"padding": "full"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"`size` must be odd and positive and `padding`"):
        WithinChannelNormalization(**settings)
