"""Random downsampling and the colour guards, against plain restatements and their distributions."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.layers import ColourDropping, ColourProjection, RandomDownsampling
from keras_ctxattr.layers.augmentation import resize_matrix
from tests import restatements as plain


def random_patches(count, size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 255, (count, size, size, 3)).astype("float32")


# ---- downsampling --------------------------------------------------------------------------------


def find_sides(downsampled, patch, sides):
    """Tells which restated side each downsampled copy of `patch` has, and how exactly."""
    candidates = np.stack([plain.resize_table(len(patch), side) for side in sides])
    # The first row of pixels suffices to tell: the column filter is the same matrix.
    table = np.einsum("sh,hwc,svw->svc", candidates[:, 0], patch, candidates)
    errors = np.abs(table[None] - downsampled[:, None, 0]).max((2, 3))
    return np.array(sides)[errors.argmin(1)], errors.min(1)


@pytest.mark.parametrize(("size", "side"), [(96, 10), (96, 33), (96, 94), (24, 5), (17, 16)])
def test_resampling_equals_the_restatement_and_tensorflows_antialiased_resize(size, side):
    patch = random_patches(1, size)[0]
    matrix = resize_matrix(size, side)
    ours = np.einsum("rh,hwc,vw->rvc", matrix, patch, matrix)
    np.testing.assert_allclose(ours, plain.downsample(patch, side), atol=1e-2)
    small = tf.image.resize(patch, (side, side), antialias=True)
    large = tf.image.resize(small, (size, size))
    np.testing.assert_allclose(ours, large, atol=1e-2)


def test_each_patch_is_resampled_as_a_whole_to_one_side():
    patches = random_patches(12, 20)
    layer = RandomDownsampling(probability=1.0, min_side=4, seed=1)
    downsampled = np.asarray(layer(patches, training=True))
    seen = set()
    for patch, result in zip(patches, downsampled, strict=True):
        restated = {side: plain.downsample(patch, side) for side in range(4, 20)}
        side = min(restated, key=lambda s: np.abs(restated[s] - result).max())
        np.testing.assert_allclose(result, restated[side], atol=1e-2)
        seen.add(side)
    assert len(seen) > 4


def test_sides_are_uniform_in_the_number_of_pixels_from_100_to_9025():
    patch = random_patches(1, 96)[0]
    copies = np.repeat(patch[None], 900, axis=0)
    layer = RandomDownsampling(probability=1.0, seed=2)
    sides, errors = find_sides(np.asarray(layer(copies, training=True)), patch, range(10, 97))
    assert errors.max() < 0.05
    assert sides.min() >= 10
    assert sides.max() < 95  # int() of a root that stays under 95
    low, high = 10**2, 95**2
    # int(sqrt(v)) <= side exactly when v < (side + 1) ** 2.
    plain.assert_follows(sides, lambda side: min(1.0, ((side + 1) ** 2 - low) / (high - low)))


def test_one_patch_in_three_is_downsampled_and_the_others_stay_as_they_are():
    patches = np.repeat(random_patches(1, 16), 4000, axis=0)
    layer = RandomDownsampling(seed=3)
    layer.min_side = 4
    result = np.asarray(layer(patches, training=True))
    same = np.abs(result - patches).max((1, 2, 3)) < 1e-3
    deviation = math.sqrt(1 / 3 * 2 / 3 / len(patches))
    assert abs((~same).mean() - 1 / 3) < 3.5 * deviation
    # Which patches are hit does not tell how strongly: neighbours in the batch are independent.
    assert abs(np.corrcoef(same[:-1], same[1:])[0, 1]) < 0.06


def test_nothing_is_downsampled_outside_training_or_at_probability_0():
    patches = random_patches(8, 16)
    layer = RandomDownsampling(probability=1.0, min_side=4)
    for training in (False, None):
        np.testing.assert_array_equal(layer(patches, training=training), patches)
    never = RandomDownsampling(probability=0.0, min_side=4)
    np.testing.assert_array_equal(never(patches, training=True), patches)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"probability": 1.5}, "probability=1.5"),
        ({"probability": -0.1}, "probability=-0.1"),
        ({"min_side": 0}, "min_side=0"),
    ],
)
def test_bad_downsampling_arguments_are_named_with_their_value(arguments, named):
    with pytest.raises(ValueError, match=named):
        RandomDownsampling(**arguments)


@pytest.mark.parametrize("shape", [(2, 10, 10, 3), (2, 16, 20, 3)])
def test_patches_that_cannot_be_downsampled_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=rf"min_side=10.*{shape[1]}, {shape[2]}"):
        RandomDownsampling(min_side=10)(np.zeros(shape, "float32"), training=True)


# ---- colour dropping -----------------------------------------------------------------------------


def find_kept(patches, dropped):
    """Tells which channel of each patch was kept: the one that still follows the original."""
    flat = [array.reshape(len(patches), -1, 3) for array in (patches, dropped)]
    centred = [values - values.mean(1, keepdims=True) for values in flat]
    scalar = (centred[0] * centred[1]).sum(1)
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    correlation = scalar / norms  # [patch, channel]
    assert ((correlation > 0.999).sum(1) == 1).all()
    return correlation.argmax(1)


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_each_channel_is_kept_equally_often(noise):
    patches = random_patches(3000, 12)
    kept = find_kept(patches, np.asarray(ColourDropping(noise, seed=1)(patches)))
    plain.assert_uniform(np.bincount(kept, minlength=3))


def test_uniform_dropping_centres_the_kept_channel_and_makes_the_others_noise_of_half_a_level():
    patches = random_patches(40, 24)
    dropped = np.asarray(ColourDropping("uniform", seed=2)(patches))
    kept = find_kept(patches, dropped)
    noise = []
    for patch, result, channel in zip(patches, dropped, kept, strict=True):
        expected = patch[..., channel] - patch[..., channel].mean()
        np.testing.assert_allclose(result[..., channel], expected, atol=1e-3)
        others = [c for c in range(3) if c != channel]
        noise.append(result[..., others])
        assert abs(np.corrcoef(*(result[..., c].ravel() for c in others))[0, 1]) < 0.2
    assert np.abs(noise).max() <= 0.5
    plain.assert_follows(noise, lambda value: value + 0.5)


def test_gaussian_dropping_keeps_a_channel_and_gives_the_others_a_hundredth_of_its_deviation():
    contrasts = np.array([1.0, 0.5, 0.1])  # so that a deviation of the wrong channel shows
    patches = (random_patches(60, 24) * contrasts).astype("float32")
    dropped = np.asarray(ColourDropping("gaussian", seed=3)(patches))
    kept = find_kept(patches, dropped)
    assert set(kept) == {0, 1, 2}
    scaled = []
    for patch, result, channel in zip(patches, dropped, kept, strict=True):
        np.testing.assert_array_equal(result[..., channel], patch[..., channel])
        others = [c for c in range(3) if c != channel]
        scaled.append(result[..., others] / (patch[..., channel].std() / 100))
    plain.assert_follows(scaled, lambda value: (1 + math.erf(value / math.sqrt(2))) / 2)


def test_unknown_noise_is_named():
    with pytest.raises(ValueError, match="noise='salt'"):
        ColourDropping("salt")


# ---- colour projection ---------------------------------------------------------------------------


def test_projection_multiplies_every_pixel_by_b():
    patches = random_patches(2, 9)
    projected = np.asarray(ColourProjection()(patches))
    for patch, result in zip(patches, projected, strict=True):
        np.testing.assert_allclose(result, plain.project(patch), atol=1e-3)


def test_projection_removes_green_against_magenta_and_nothing_else():
    # By hand: green loses a third of itself, grey and red-minus-blue are untouched.
    pixels = np.array([[[[0, 255, 0], [80, 80, 80], [60, 0, -60], [-1, 2, -1]]]], "float32")
    expected = np.array([[[[85, 85, 85], [80, 80, 80], [60, 0, -60], [0, 0, 0]]]], "float32")
    projected = ColourProjection()(pixels)
    np.testing.assert_allclose(projected, expected, atol=1e-4)
    np.testing.assert_allclose(ColourProjection()(projected), projected, atol=1e-4)
