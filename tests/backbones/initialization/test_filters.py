import keras
import numpy as np
import pytest
from keras import layers
from sklearn.cluster import MiniBatchKMeans

from keras_ctxattr.backbones.initialization import affine, filters

GENERATOR = np.random.default_rng(0)
MIXTURE = GENERATOR.normal(size=(12, 12)) * np.linspace(1, 5, 12)
SAMPLES = (GENERATOR.gamma(1.0, size=(500, 12)) @ MIXTURE + 7).astype("float32")


def whiten_plainly(samples: np.ndarray, count: int) -> np.ndarray:
    """What section 4 says, with loops."""
    centred = samples.astype("float64") - samples.mean(axis=0, dtype="float64")
    scatter = sum(np.outer(row, row) for row in centred)
    variances, directions = np.linalg.eigh(scatter)
    columns = [
        centred @ directions[:, index] / np.sqrt(variances[index] + 1e-3)
        for index in reversed(range(len(variances) - count, len(variances)))
    ]
    return np.stack(columns, axis=1)


def align(columns: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Gives columns the signs of others: an eigenvector has none."""
    return columns * np.sign(np.sum(columns * other, axis=0))


class RecordingKMeans(MiniBatchKMeans):
    def fit(self, samples: np.ndarray) -> "RecordingKMeans":
        type(self).seen = samples
        super().fit(samples)
        type(self).centres = self.cluster_centers_
        return self


@pytest.mark.parametrize("count", [5, 12])
def test_kmeans_filter_responds_like_its_centre_to_whitened_samples(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MiniBatchKMeans", RecordingKMeans)
    found = SAMPLES @ filters.kmeans_filters(SAMPLES, count, GENERATOR)
    whitened = align(whiten_plainly(SAMPLES, count), RecordingKMeans.seen)
    unit = np.stack([row / np.linalg.norm(row) for row in whitened])
    np.testing.assert_allclose(RecordingKMeans.seen, unit, atol=1e-4)
    expected = whitened @ RecordingKMeans.centres.T
    difference = found - found.mean(axis=0) - (expected - expected.mean(axis=0))
    assert np.abs(difference).max() < 1e-4 * np.abs(expected).max()


def test_principal_directions_respond_independently_at_unit_scale() -> None:
    responses = SAMPLES @ filters.pca_filters(SAMPLES, 7, GENERATOR)
    centred = responses - responses.mean(axis=0)
    np.testing.assert_allclose(centred.T @ centred, np.eye(7), atol=0.01)
    np.testing.assert_allclose(align(whiten_plainly(SAMPLES, 7), centred), centred, atol=1e-4)


def test_more_filters_than_directions_are_mixtures_of_them() -> None:
    grey = np.repeat(SAMPLES[:, :4], 3, axis=1)  # 4 directions in 12 dimensions
    found = filters.pca_filters(grey, 20, np.random.default_rng(0))
    assert found.shape == (12, 20)
    assert np.linalg.matrix_rank(found, tol=1e-6 * np.abs(found).max()) == 4
    assert filters.kmeans_filters(grey, 20, np.random.default_rng(0)).shape == (12, 20)


def test_products_of_samples_give_the_directions_that_the_scatter_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = SAMPLES[:11] - SAMPLES[:11].mean(axis=0)  # fewer samples than dimensions
    expected = filters._strongest(few.T @ few, 5)
    variances, directions = filters._principal_directions(few, 5, GENERATOR)
    np.testing.assert_allclose(variances, expected[0], rtol=1e-4)
    np.testing.assert_allclose(align(directions, expected[1]), expected[1], atol=1e-3)
    # As if 500 samples were too many: a draw of them stands for all.
    monkeypatch.setattr(filters, "_MAX_SIDE", 11)
    strongest, _ = filters._principal_directions(SAMPLES - SAMPLES.mean(axis=0), 3, GENERATOR)
    total = np.square(SAMPLES - SAMPLES.mean(axis=0)).sum()
    assert 0.1 * total < strongest.sum() < 3 * total


@pytest.mark.parametrize("samples", [SAMPLES[:5], np.ones((50, 12), "float32"), SAMPLES[:1]])
@pytest.mark.parametrize("method", ["kmeans", "pca"])
def test_samples_that_say_nothing_give_gaussian_filters(method: str, samples: np.ndarray) -> None:
    found, used = filters.find_filters(method, samples, 6, GENERATOR)
    assert (found.shape, used) == ((12, 6), "gaussian")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same"},
        {"strides": 2, "padding": "same"},
        {"strides": (3, 2)},
        {"dilation_rate": 2, "padding": "same"},
    ],
)
def test_windows_are_what_the_convolution_sees(options: dict[str, object]) -> None:
    layer = layers.Conv2D(4, (3, 2), use_bias=False, **options)
    maps = [GENERATOR.normal(size=(2, 9, 8, 5)).astype("float32") for _ in range(2)]
    expected = np.concatenate([np.reshape(layer(one), (-1, 4)) for one in maps])
    windows = affine.sample_inputs(layer, maps, GENERATOR)
    kernel = np.reshape(layer.kernel, (6, 5, 4))
    np.testing.assert_allclose(np.einsum("spc,pcf->sf", windows, kernel), expected, atol=1e-5)


def test_samples_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affine, "_MAX_VALUES", 600)
    layer = layers.Conv2D(4, 2)
    layer.build((None, 9, 9, 5))
    maps = [GENERATOR.normal(size=(2, 9, 9, 5)).astype("float32") for _ in range(3)]
    windows = affine.sample_inputs(layer, maps, GENERATOR)
    assert windows.shape == (30, 4, 5)
    assert len(np.unique(windows[:, 0, 0])) == 30  # without repetition


def test_dense_layers_take_vectors_of_any_number_of_axes() -> None:
    layer = layers.Dense(4)
    regions = keras.ops.reshape(keras.ops.arange(30, dtype="float32"), (2, 5, 3))
    layer(regions)
    found = affine.sample_inputs(layer, [regions], GENERATOR)
    np.testing.assert_array_equal(found[:, 0], np.arange(30).reshape(10, 3))


def test_moments_survive_a_large_mean() -> None:
    values = GENERATOR.normal(1e4, [0.5, 3.0], size=(4, 100, 2)).astype("float32")
    mean, deviation = affine.moments(list(values))
    flat = values.reshape(-1, 2).astype("float64")
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, flat.std(axis=0), rtol=1e-4)
