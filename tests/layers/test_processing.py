"""What the network sees: both published recipes, step by step and in their order."""

import keras
import numpy as np
import pytest

from keras_ctxattr.layers import PatchProcessing
from tests import restatements as plain

SIZE = 24


@pytest.fixture(scope="module")
def patches():
    return np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def mixed_policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def restate(patch, preset, colour, side=None):
    """The specification's text, for the two colour guards that draw nothing."""
    patch = patch.astype("float64")
    if preset == "paper":
        patch = patch - np.array([122.7, 116.7, 104.0])
    if preset == "released" and side is not None:
        patch = plain.downsample(patch, side)
    if colour == "project":
        patch = plain.project(patch)
    if preset == "paper":
        return patch if side is None else plain.downsample(patch, side)
    return plain.normalize_contrast(plain.subtract_channel_means(patch))


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("colour", ["project", "none"])
def test_evaluation_equals_the_restatement(patches, preset, colour):
    processed = np.asarray(PatchProcessing(preset, colour)(patches, training=False))
    for patch, result in zip(patches, processed, strict=True):
        np.testing.assert_allclose(result, restate(patch, preset, colour), atol=1e-3)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("colour", ["project", "none"])
def test_training_equals_the_restatement_at_some_side(patches, preset, colour):
    layer = PatchProcessing(preset, colour, downsampling=1.0, seed=1)
    processed = np.asarray(layer(patches, training=True))
    for patch, result in zip(patches, processed, strict=True):
        restated = [restate(patch, preset, colour, side) for side in range(10, SIZE)]
        assert min(np.abs(candidate - result).max() for candidate in restated) < 1e-2
        assert np.abs(restate(patch, preset, colour) - result).max() > 0.5


@pytest.mark.parametrize("colour", ["drop", "project", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_released_patches_have_a_root_mean_square_of_50(patches, colour, training):
    processed = np.asarray(PatchProcessing("released", colour)(patches, training=training))
    for patch in processed:
        assert plain.root_mean_square(patch) == pytest.approx(50, abs=1e-3)


def smoothness(patches):
    """Correlation of neighbouring pixels in the two faintest channels, the dropped ones."""
    found = []
    for patch in patches:
        for channel in np.argsort(patch.std((0, 1)))[:2]:
            left, right = patch[:, :-1, channel].ravel(), patch[:, 1:, channel].ravel()
            found.append(np.corrcoef(left, right)[0, 1])
    return np.mean(found)


def test_released_noise_comes_after_downsampling_and_the_papers_before(patches):
    released = PatchProcessing("released", "drop", downsampling=1.0, seed=2)
    assert abs(smoothness(np.asarray(released(patches, training=True)))) < 0.1
    paper = PatchProcessing("paper", "drop", downsampling=1.0, seed=2)
    assert smoothness(np.asarray(paper(patches, training=True))) > 0.3
    assert abs(smoothness(np.asarray(paper(patches, training=False)))) < 0.1


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_evaluation_does_not_downsample_but_drops_colours(patches, preset):
    processed = np.asarray(PatchProcessing(preset, "drop", downsampling=1.0)(patches))
    for patch, result in zip(patches.astype("float64"), processed, strict=True):
        deviations = result.std((0, 1))
        kept = deviations.argmax()
        assert (np.delete(deviations, kept) < deviations[kept] / 50).all()
        # The kept channel has all its detail: it is an affine function of the original.
        correlation = np.corrcoef(result[..., kept].ravel(), patch[..., kept].ravel())[0, 1]
        assert correlation > 1 - 1e-6


def test_the_draws_of_one_seed_are_independent_of_one_another():
    patches = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    copies = np.repeat(patches, 3000, axis=0)
    layer = PatchProcessing("released", "drop", downsampling=0.5, seed=7)
    layer.steps[0].min_side = 4
    processed = np.asarray(layer(copies, training=True))
    kept = processed.std((1, 2)).argmax(1)
    # Resampling smooths: neighbouring pixels of the kept channel correlate.
    channel = np.take_along_axis(processed, kept[:, None, None, None], 3)[..., 0]
    correlation = (channel[:, :, 1:] * channel[:, :, :-1]).mean((1, 2)) / channel.var((1, 2))
    for number in range(3):
        mine = correlation[kept == number]
        smooth = (mine > 0.25).mean()
        overall = (correlation > 0.25).mean()
        assert abs(smooth - overall) < 0.08, (number, smooth, overall)


@pytest.mark.parametrize("mixed_policy", ["mixed_bfloat16", "mixed_float16"], indirect=True)
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_processing_stays_in_float32_under_every_policy(patches, preset, mixed_policy):
    layer = PatchProcessing(preset, "project", downsampling=1.0, seed=3)
    processed = layer(patches, training=False)
    assert keras.backend.standardize_dtype(processed.dtype) == "float32"
    for patch, result in zip(patches, np.asarray(processed), strict=True):
        np.testing.assert_allclose(result, restate(patch, preset, "project"), atol=1e-3)
    trained = layer(patches, training=True)
    assert keras.backend.standardize_dtype(trained.dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"preset": "papers"}, "preset='papers'"),
        ({"colour": "grey"}, "colour='grey'"),
        ({"downsampling": 2.0}, "2.0"),
        ({"preset": "paper", "mean": (1.0, 2.0)}, r"\(1.0, 2.0\)"),
    ],
)
def test_bad_arguments_are_named_with_their_value(arguments, named):
    with pytest.raises(ValueError, match=named):
        PatchProcessing(**arguments)
