"""Cells of a map lie on the middle of what they see, by hand and by pixels that are coordinates."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from keras_ctxattr.layers import CeilMaxPooling2D
from keras_ctxattr.tasks.detection.transfer import (
    FeatureNetwork,
    measure_map,
    open_feature_network,
)
from keras_ctxattr.tasks.normals.aligning import align_features
from keras_ctxattr.tasks.normals.layers import MapResizing
from tests.tasks.normals.test_network import coordinates


def features_of(*stack):
    inputs = keras.Input((None, None, 3))
    maps = inputs
    for layer in stack:
        maps = layer(maps)
    model = keras.Model(inputs, maps)
    stride, offset = measure_map(model)
    return FeatureNetwork(
        name="stack", model=model, whole=model, processing={}, stride=stride, offset=offset
    )


WIDER = layers.Conv2D(64, 1)  # the largest of four is the first one in some channel

# Layers -> the middle of what cell 0 sees, in pixels from the edge.
STACKS = {
    "every fourth pixel, 11 x 11 around": (
        [layers.ZeroPadding2D(5), layers.Conv2D(8, 11, strides=4)],
        0.5,
    ),
    "pooling from the first pixel": ([WIDER, CeilMaxPooling2D()], 1.5),
    "two of them": ([WIDER, CeilMaxPooling2D(), CeilMaxPooling2D()], 3.5),
    "pooling in whole cells": ([WIDER, layers.MaxPooling2D(4)], 2.0),
    "padding to the right alone": ([layers.Conv2D(8, 3, strides=2, padding="same")], 1.5),
    "no stride": ([layers.Conv2D(8, 5, padding="same")], 0.5),
}


@pytest.mark.parametrize("name", STACKS)
def test_offsets_by_hand(name):
    stack, first = STACKS[name]
    features = features_of(*stack)
    aligned = align_features(features)
    assert aligned.offset + aligned.stride / 2 == first
    assert aligned.model is features.model and aligned.stride == features.stride


def test_conv5_of_alexnet_sees_farther_right_than_its_sides_tell():
    """Cell 0: conv1 at 0.5, +4 by pool1 (3 of 4 pixels), +8 by pool2 (3 of 8)."""
    features = open_feature_network("untrained:alexnet")
    assert features.offset == 0
    assert align_features(features).offset == 0.5 + 4 + 8 - 16 / 2


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [(3, 2), (5, 4), (4, 4)])
def test_pixels_that_are_coordinates_come_back_to_their_places(size, strides, padding):
    """The "features" are means of coordinates over windows that overlap."""
    images = coordinates(63, 95)
    pooling = layers.AveragePooling2D(size, strides=strides, padding=padding)
    aligned = align_features(features_of(pooling))
    # What "same" pads on the left depends on the side: the offset is that of whole strides.
    even = coordinates(64, 96)
    for image in (images, even) if padding == "valid" else (even,):
        large = MapResizing(aligned.stride, aligned.offset)(pooling(image), image)
        inner = slice(2 * size, -2 * size)
        np.testing.assert_allclose(large[0, inner, inner], image[0, inner, inner], atol=1e-3)


def test_what_sees_everything_keeps_its_offset():
    class Everything(layers.Layer):
        def call(self, maps):
            return maps - keras.ops.mean(maps, axis=(1, 2), keepdims=True)

    features = features_of(layers.MaxPooling2D(4), Everything())
    features = dataclasses.replace(features, offset=1.25)
    assert align_features(features) is features
