"""Random transformations: geometry by coordinates, colours by hand, draws by their distribution."""

import colorsys
import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.layers import RandomTransformation
from keras_ctxattr.layers.transformation import (
    Transformations,
    apply_transformation,
    draw_transformations,
)
from tests import restatements as plain

NOTHING = {
    "shift": [0.0, 0.0],
    "scale": 1.0,
    "rotation": 0.0,
    "contrast": 1.0,
    "brightness": 0.0,
    "saturation": 1.0,
    "hue": 0.0,
    "flip": 1.0,
}
SWITCHED_OFF = {**dict.fromkeys(NOTHING, 0.0), "scale": 1, "contrast": 1, "saturation": 1}


def transformations(count=1, **changes):
    """Gives one and the same transformation for each patch."""
    values = {**NOTHING, **changes}
    return Transformations(
        **{name: np.array([value] * count, "float32") for name, value in values.items()}
    )


def transform(patch, **changes):
    return np.asarray(apply_transformation(patch[None], transformations(**changes))[0])


def random_patches(count, size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 255, (count, size, size, 3)).astype("float32")


def coordinate_patch(size):
    """Gives a patch whose pixels are (row, column, 100)."""
    row, column = np.mgrid[:size, :size].astype("float32")
    return np.stack([row, column, np.full_like(row, 100)], -1)


# ---- slow plain restatement ----------------------------------------------------------------------


def turn_and_scale(offset, scale, degrees):
    """Where a point at (right, down) of the centre goes: enlarged, turned counter-clockwise."""
    right, up = offset[0] * scale, -offset[1] * scale
    radians = math.radians(degrees)
    turned = (
        right * math.cos(radians) - up * math.sin(radians),
        right * math.sin(radians) + up * math.cos(radians),
    )
    return turned[0], -turned[1]


def warp(patch, shift=(0, 0), scale=1.0, rotation=0.0, flip=1.0):
    """Looks every pixel up where it comes from, in a patch that is mirrored on all sides."""
    size = len(patch)
    patch = patch[:, ::-1] if flip < 0 else patch
    around = np.pad(patch, ((2 * size, 2 * size), (2 * size, 2 * size), (0, 0)), "symmetric")
    centre = (size - 1) / 2
    warped = np.zeros_like(patch)
    for row in range(size):
        for column in range(size):
            moved = (column - centre - shift[0] * size, row - centre - shift[1] * size)
            right, down = turn_and_scale(moved, 1 / scale, -rotation)
            y, x = down + centre + 2 * size, right + centre + 2 * size
            top, left = math.floor(y), math.floor(x)
            for at_row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
                for at_column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
                    weight = row_weight * column_weight
                    warped[row, column] += weight * around[at_row, at_column]
    return warped


def recolour(patch, contrast=1.0, brightness=0.0, saturation=1.0, hue=0.0):
    """Turns and stretches each pixel's difference from its grey, then stretches all values."""
    mean = patch.mean()
    # Two axes at right angles in the plane of all colours of grey 0, the first towards red.
    red = np.array([2.0, -1.0, -1.0]) / math.sqrt(6)
    green_less_blue = np.array([0.0, 1.0, -1.0]) / math.sqrt(2)
    recoloured = np.zeros_like(patch)
    for place in np.ndindex(*patch.shape[:2]):
        pixel = patch[place].astype("float64")
        chroma = complex(pixel @ red, pixel @ green_less_blue)
        chroma *= saturation * complex(math.cos(math.radians(hue)), math.sin(math.radians(hue)))
        colour = pixel.mean() + chroma.real * red + chroma.imag * green_less_blue
        recoloured[place] = (colour - mean) * contrast + mean + 255 * brightness
    return recoloured.clip(0, 255)


# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 12])
def test_transformation_of_nothing_gives_exactly_the_patches(size):
    patches = random_patches(3, size)
    result = apply_transformation(patches, transformations(3))
    np.testing.assert_array_equal(result, patches)


def test_pixels_go_where_shift_scale_and_rotation_say():
    # Each pixel says where it was; away from the border, linear values are interpolated exactly.
    size, shift, scale, rotation = 41, (0.1, -0.05), 1.3, 25.0
    result = transform(coordinate_patch(size), shift=shift, scale=scale, rotation=rotation)
    centre = (size - 1) / 2
    for row in range(14, 26):
        for column in range(14, 26):
            was_row, was_column, _ = result[row, column]
            offset = was_column - centre, was_row - centre
            right, down = turn_and_scale(offset, scale, rotation)
            assert centre + right + shift[0] * size == pytest.approx(column, abs=1e-3)
            assert centre + down + shift[1] * size == pytest.approx(row, abs=1e-3)


def test_shift_moves_content_right_and_down_and_mirrors_what_comes_in():
    patch = coordinate_patch(10)
    result = transform(patch, shift=[0.2, 0.1])
    np.testing.assert_allclose(result[1:, 2:], patch[:-1, :-2], atol=1e-4)
    assert result[5, :3, 1] == pytest.approx([1, 0, 0])  # the border pixel occurs twice
    assert result[:2, 5, 0] == pytest.approx([0, 0])


def test_quarter_turn_is_counter_clockwise_as_one_sees_it():
    patch = random_patches(1, 9)[0]
    np.testing.assert_allclose(transform(patch, rotation=90.0), np.rot90(patch), atol=1e-3)


def test_scale_above_1_enlarges_about_the_centre():
    patch = coordinate_patch(9)
    result = transform(patch, scale=2.0)
    np.testing.assert_allclose(result[4, :, 1], np.linspace(2, 6, 9), atol=1e-4)
    smaller = transform(patch, scale=0.5)
    np.testing.assert_allclose(smaller[4, 2:7, 1], [0, 2, 4, 6, 8], atol=1e-4)
    assert smaller[4, :2, 1] == pytest.approx([3, 1])  # mirrored: -4 is 3, -2 is 1


@pytest.mark.parametrize("size", [1, 8, 13])
def test_flip_alone_is_exactly_the_mirror_image_and_twice_the_patch(size):
    patch = random_patches(1, size)[0]
    np.testing.assert_array_equal(transform(patch, flip=-1.0), patch[:, ::-1])
    np.testing.assert_array_equal(transform(transform(patch, flip=-1.0), flip=-1.0), patch)


def test_patches_are_mirrored_before_they_are_scaled_rotated_and_shifted():
    patch = random_patches(1, 24, seed=2)[0]
    moves = {"shift": [0.1, -0.2], "scale": 1.2, "rotation": 30.0}
    found = transform(patch, flip=-1.0, **moves)
    np.testing.assert_allclose(found, transform(patch[:, ::-1], **moves), atol=0.02)
    assert np.abs(found - transform(patch, **moves)[:, ::-1]).mean() > 20, "not after them"
    # Mirrored afterwards, a patch would have turned the other way.
    after = {"shift": [-0.1, -0.2], "scale": 1.2, "rotation": -30.0}
    np.testing.assert_allclose(found, transform(patch, **after)[:, ::-1], atol=0.02)


def test_flip_leaves_colours_alone():
    patch = random_patches(1, 9, seed=3)[0]
    colours = {"contrast": 0.7, "brightness": 0.05, "saturation": 1.3, "hue": 25.0}
    found = transform(patch, flip=-1.0, **colours)
    np.testing.assert_allclose(found, transform(patch, **colours)[:, ::-1], atol=1e-3)


@pytest.mark.parametrize("size", [8, 13])
def test_geometry_equals_the_restatement_inside_and_beyond_the_border(size):
    patches = random_patches(6, size, seed=size)
    drawn = draw_transformations(
        6, shift=0.6, scale=1.8, rotation=180.0, contrast=1.0, brightness=0.0, saturation=1.0,
        hue=0.0, flip=0.5, seed=3,
    )  # fmt: skip
    assert set(np.asarray(drawn.flip)) == {-1, 1}
    result = apply_transformation(patches, drawn)
    for number, patch in enumerate(patches):
        expected = warp(
            patch,
            np.asarray(drawn.shift[number]),
            float(drawn.scale[number]),
            float(drawn.rotation[number]),
            float(drawn.flip[number]),
        )
        np.testing.assert_allclose(result[number], expected, atol=0.02)


# ---- colour --------------------------------------------------------------------------------------


def test_contrast_is_about_the_mean_of_the_patch_and_brightness_is_a_fraction_of_255():
    patch = np.zeros((2, 2, 3), "float32") + np.array([[[100], [140]], [[100], [140]]], "float32")
    assert transform(patch, contrast=2.0)[0, :, 0] == pytest.approx([80, 160])
    assert transform(patch, contrast=0.5)[0, :, 0] == pytest.approx([110, 130])
    assert transform(patch, brightness=-0.2)[0, :, 0] == pytest.approx([49, 89])
    assert transform(patch, brightness=0.8).max() == 255


def test_hue_of_120_degrees_takes_red_to_green_to_blue_to_red():
    colours = np.array([[[90, 30, 20], [20, 70, 10], [10, 20, 60], [50, 50, 50]]] * 4, "float32")
    turned = transform(colours, hue=120.0)
    np.testing.assert_allclose(turned, np.roll(colours, 1, axis=-1), atol=1e-3)


def test_hue_turns_the_way_it_does_in_hsv():
    patch = np.full((2, 2, 3), (120, 60, 60), "float32")
    red, green, blue = transform(patch, hue=36.0)[0, 0] / 255
    # HSV measures angles along a hexagon, not a circle: 36 degrees are 33 to 39 of its own.
    assert colorsys.rgb_to_hsv(red, green, blue)[0] * 360 == pytest.approx(36, abs=3)


def test_saturation_moves_colours_from_and_to_their_own_grey():
    patch = np.full((2, 2, 3), (120, 60, 60), "float32")
    assert transform(patch, saturation=2.0)[0, 0] == pytest.approx([160, 40, 40], abs=1e-3)
    assert transform(patch, saturation=0.5)[0, 0] == pytest.approx([100, 70, 70], abs=1e-3)


def test_grey_patches_stay_grey_whatever_the_hue_and_saturation():
    grey = np.repeat(random_patches(5, 9)[..., :1], 3, axis=-1)
    result = np.asarray(apply_transformation(grey, draw_transformations(5, seed=1)))
    np.testing.assert_allclose(result[..., 1], result[..., 0], atol=1e-3)
    np.testing.assert_allclose(result[..., 2], result[..., 0], atol=1e-3)


def test_colours_equal_the_restatement():
    patches = random_patches(8, 6, seed=5)
    drawn = draw_transformations(8, shift=0.0, scale=1.0, rotation=0.0, hue=180.0, seed=4)
    result = apply_transformation(patches, drawn)
    for number, patch in enumerate(patches):
        arguments = {
            name: float(getattr(drawn, name)[number])
            for name in ("contrast", "brightness", "saturation", "hue")
        }
        np.testing.assert_allclose(result[number], recolour(patch, **arguments), atol=0.01)


# ---- draws ---------------------------------------------------------------------------------------


def test_parameters_follow_their_ranges():
    ranges = {"shift": 0.3, "rotation": 40.0, "brightness": 0.2, "hue": 50.0}
    factors = {"scale": 1.5, "contrast": 3.0, "saturation": 1.2}
    drawn = draw_transformations(4000, **ranges, **factors, seed=7)
    for name, largest in ranges.items():
        values = np.asarray(getattr(drawn, name)).ravel() / largest
        plain.assert_follows(values, lambda value: (value + 1) / 2)
    for name, largest in factors.items():
        values = np.log(np.asarray(getattr(drawn, name))) / math.log(largest)
        plain.assert_follows(values, lambda value: (value + 1) / 2)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_of_the_patches_is_mirrored(share):
    flips = np.asarray(draw_transformations(4000, flip=share, seed=7).flip)
    assert set(flips) <= {-1, 1}
    spread = math.sqrt(share * (1 - share) / 4000)
    assert abs(np.mean(flips == -1) - share) <= 4.5 * spread  # exactly, where all or none are


def test_mirroring_changes_no_other_draw():
    drawn, mirrored = (draw_transformations(50, flip=share, seed=7) for share in (0.0, 0.5))
    for name in NOTHING.keys() - {"flip"}:
        np.testing.assert_array_equal(getattr(mirrored, name), getattr(drawn, name))


def test_parameters_and_patches_are_drawn_independently():
    drawn = draw_transformations(4000, flip=0.5, seed=8)
    columns = [np.asarray(value).reshape(4000, -1) for value in vars(drawn).values()]
    table = np.concatenate(columns, axis=1)  # [patch, parameter]
    assert table.shape == (4000, 9)
    both = np.concatenate([table[1:], table[:-1]], axis=1)  # beside those of the next patch
    correlations = np.corrcoef(both.T) - np.eye(18)
    assert np.abs(correlations).max() < 4.5 / math.sqrt(4000)


def test_each_patch_depends_on_its_own_transformation_only():
    patches = random_patches(5, 10)
    drawn = draw_transformations(5, seed=9)
    together = np.asarray(apply_transformation(patches, drawn))
    for number in range(5):
        alone = Transformations(
            **{name: value[number : number + 1] for name, value in vars(drawn).items()}
        )
        result = apply_transformation(patches[number : number + 1], alone)
        np.testing.assert_allclose(result[0], together[number], atol=1e-3)
    # Equal patches become different ones.
    copies = np.repeat(patches[:1], 5, axis=0)
    different = np.asarray(apply_transformation(copies, drawn))
    assert all(np.abs(different[i] - different[j]).mean() > 5 for i in range(5) for j in range(i))


# ---- the layer -----------------------------------------------------------------------------------


def test_layer_draws_and_applies():
    patches = random_patches(4, 12)
    layer = RandomTransformation(seed=10)
    result = layer(patches, training=True)
    drawn = draw_transformations(4, seed=RandomTransformation(seed=10).seed_generator)
    np.testing.assert_array_equal(result, apply_transformation(patches, drawn))
    assert np.abs(np.asarray(layer(patches, training=True)) - result).mean() > 5, "new draws"


def test_layer_mirrors_all_the_patches_or_about_half_of_them():
    patches = random_patches(400, 5)
    mirrored = RandomTransformation(**{**SWITCHED_OFF, "flip": 1.0})(patches, training=True)
    np.testing.assert_array_equal(mirrored, patches[:, :, ::-1])
    half = RandomTransformation(**{**SWITCHED_OFF, "flip": 0.5}, seed=2)(patches, training=True)
    is_mirrored = np.all(half == patches[:, :, ::-1], axis=(1, 2, 3))
    np.testing.assert_array_equal(is_mirrored, ~np.all(half == patches, axis=(1, 2, 3)))
    assert abs(is_mirrored.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(400)


def test_layer_made_from_its_config_mirrors_the_same_patches():
    layer = RandomTransformation(flip=0.3, seed=4)
    assert layer.get_config()["flip"] == 0.3
    again = RandomTransformation.from_config(layer.get_config())
    patches = random_patches(20, 8)
    np.testing.assert_array_equal(again(patches, training=True), layer(patches, training=True))
    assert RandomTransformation().get_config()["flip"] == 0, "off unless asked for"


def test_bytes_and_floats_give_the_same():
    patches = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    floats = RandomTransformation(seed=1)(patches.astype("float32"), training=True)
    np.testing.assert_array_equal(RandomTransformation(seed=1)(patches, training=True), floats)


@pytest.mark.parametrize("training", [False, None])
def test_outside_training_patches_are_only_cast(training):
    patches = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    result = RandomTransformation()(patches, training=training)
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, patches)


def test_ranges_of_nothing_give_exactly_the_patches():
    patches = random_patches(3, 9)
    layer = RandomTransformation(**SWITCHED_OFF, seed=1)
    np.testing.assert_array_equal(layer(patches, training=True), patches)


def test_compiled_by_xla_it_gives_the_same():
    patches, drawn = random_patches(3, 16), draw_transformations(3, flip=0.5, seed=2)
    compiled = tf.function(lambda p: apply_transformation(p, drawn), jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(patches)), apply_transformation(patches, drawn), atol=0.05
    )


def test_values_stay_on_the_scale_and_finite():
    layer = RandomTransformation(1.0, 100.0, 180.0, 100.0, 1.0, 100.0, 180.0, 0.5, seed=3)
    result = np.asarray(layer(random_patches(64, 8), training=True))
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 255


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"shift": -0.1}, "`shift` must be between 0 and 1;.*shift=-0.1"),
        ({"scale": 0.7}, "`scale` must be between 1 and 100;.*scale=0.7"),
        ({"rotation": 200.0}, "rotation=200.0"),
        ({"contrast": 0.0}, "contrast=0.0"),
        ({"brightness": 25.0}, "brightness=25.0"),
        ({"saturation": 0.5}, "saturation=0.5"),
        ({"hue": math.nan}, "hue=nan"),
        ({"flip": 1.5}, "`flip` must be between 0 and 1;.*flip=1.5"),
        ({"flip": -1.0}, "flip=-1.0"),
    ],
)
def test_impossible_range_is_named_with_its_value(arguments, told):
    with pytest.raises(ValueError, match=told) as caught:
        RandomTransformation(**arguments)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=told):
        draw_transformations(2, **arguments)


@pytest.mark.parametrize(
    ("shape", "told"), [((2, 8, 9, 3), "square"), ((2, 8, 8, 1), "three channels")]
)
def test_other_shapes_are_refused(shape, told):
    with pytest.raises(ValueError, match=told):
        RandomTransformation()(np.zeros(shape, "float32"), training=True)


def test_every_field_can_be_replaced():
    # What training scripts do: draw, then switch one kind of change off.
    patches = random_patches(2, 8)
    drawn = draw_transformations(2, seed=1)
    still = dataclasses.replace(drawn, brightness=np.zeros(2, "float32"))
    assert np.abs(apply_transformation(patches, still) - apply_transformation(patches, drawn)).max()
