"""Photographs in a padded batch come out as they do alone."""

import numpy as np
import pytest

from keras_ctxattr.layers import CanvasProcessing, PatchProcessing, RandomDownsampling


def make_batch(generator):
    sizes = np.array([[40, 60], [64, 32]], "int32")
    canvases = np.zeros((2, 64, 60, 3), "uint8")
    for canvas, (height, width) in zip(canvases, sizes, strict=True):
        canvas[:height, :width] = generator.integers(0, 256, (height, width, 3))
    return canvases, sizes


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("colour", ["none", "project"])
def test_each_photograph_is_as_a_patch_of_its_own(preset, colour):
    canvases, sizes = make_batch(np.random.default_rng(0))
    processed = np.asarray(CanvasProcessing(preset, colour)(canvases, sizes))
    steps = PatchProcessing(preset, colour, downsampling=0.0).steps
    steps = [step for step in steps if not isinstance(step, RandomDownsampling)]
    for canvas, given, (height, width) in zip(processed, canvases, sizes, strict=True):
        expected = given[None, :height, :width].astype("float32")
        for step in steps:
            expected = np.asarray(step(expected))
        assert np.allclose(canvas[:height, :width], expected[0], atol=1e-3)


@pytest.mark.parametrize("preset", ["released", "paper", "unit", "none"])
def test_padding_stays_zero(preset):
    canvases, sizes = make_batch(np.random.default_rng(1))
    processed = np.asarray(CanvasProcessing(preset)(canvases, sizes))
    assert not processed[0, 40:].any()
    assert not processed[1, :, 32:].any()
    assert processed[0, :40, :60].any()


def test_unit_divides_only_and_none_does_nothing():
    canvases, sizes = make_batch(np.random.default_rng(2))
    processed = np.asarray(CanvasProcessing("unit")(canvases, sizes))
    assert np.allclose(processed, canvases / 255)
    untouched = np.asarray(CanvasProcessing("none")(canvases, sizes))
    assert untouched.dtype == np.float32
    np.testing.assert_array_equal(untouched, canvases)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="`preset` must be one of"):
        CanvasProcessing("huge")
