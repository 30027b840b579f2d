"""What every layer of ours promises, whatever it computes: shared by the tests of all layers."""

import contextlib
import inspect
import json

import keras
import numpy as np
import tensorflow as tf

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@contextlib.contextmanager
def dtype_policy(name):
    """Sets Keras's global dtype policy and puts the old one back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def as_arrays(outputs):
    """Gives a structure of tensors as a list of float64 or integer arrays."""
    arrays = []
    for tensor in tf.nest.flatten(outputs):
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        is_float = dtype.startswith(("float", "bfloat"))
        arrays.append(np.asarray(tf.cast(tensor, "float64") if is_float else tensor))
    return arrays


def describe(outputs):
    """Gives a structure of tensors as a list of (shape, dtype)."""
    return [
        (tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
        for tensor in tf.nest.flatten(outputs)
    ]


def assert_equal(outputs, others):
    """Asserts that two structures of tensors are equal, bit for bit."""
    outputs, others = as_arrays(outputs), as_arrays(others)
    assert len(outputs) == len(others)
    for output, other in zip(outputs, others, strict=True):
        np.testing.assert_array_equal(output, other)


def assert_survives_its_config(make_layer, inputs, **options):
    """Config -> JSON -> layer gives the same config, and the same output from the same weights."""
    layer = make_layer()
    layer(*inputs, **options)
    config = layer.get_config()
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert config[name] == getattr(layer, name), name
    stored = json.dumps(keras.saving.serialize_keras_object(layer))
    copy = keras.saving.deserialize_keras_object(json.loads(stored))
    assert type(copy) is type(layer)
    assert json.dumps(copy.get_config()) == json.dumps(layer.get_config())
    if not copy.built:
        copy(*inputs, **options)
    copy.set_weights(layer.get_weights())
    fresh = type(layer).from_config(layer.get_config())
    fresh(*inputs, **options)
    fresh.set_weights(layer.get_weights())
    again = make_layer()
    again(*inputs, **options)
    again.set_weights(layer.get_weights())
    # `copy` was built from the stored configuration and may have drawn nothing yet: rewind all.
    for candidate in (layer, copy, fresh, again):
        rewind(candidate)
    outputs = layer(*inputs, **options)
    for candidate in (copy, fresh, again):
        assert_equal(candidate(*inputs, **options), outputs)


def rewind(layer):
    """Sets every generator of draws in a layer to the same state."""
    for variable in layer.non_trainable_variables:
        if "seed_generator" in variable.path:
            variable.assign(np.array([11, 0], "uint32"))


def assert_symbolic_call_tells_shape_and_dtype(make_layer, inputs, **options):
    """Calling the layer on KerasTensors foretells the eager outputs, under the current policy."""
    eager = make_layer()(*inputs, **options)
    symbolic = [
        keras.KerasTensor(i.shape, keras.backend.standardize_dtype(i.dtype)) for i in inputs
    ]
    assert describe(make_layer()(*symbolic, **options)) == describe(eager)


def assert_leaves_its_inputs_alone(make_layer, inputs, **options):
    """No layer changes its arguments."""
    copies = [np.array(array) for array in inputs]
    make_layer()(*inputs, **options)
    for array, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def assert_works_in_a_pipeline(make_layer, inputs, **options):
    """The layer in `tf.data.Dataset.map` gives what it gives outside."""
    layer = make_layer()
    layer(*inputs, **options)  # weights and generators are made outside the pipeline
    rewind(layer)
    outputs = layer(*inputs, **options)
    rewind(layer)
    elements = tf.data.Dataset.from_tensors(tuple(inputs))
    (mapped,) = elements.map(lambda *arrays: layer(*arrays, **options))
    for result, expected in zip(as_arrays(mapped), as_arrays(outputs), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def assert_works_in_a_functional_model(make_layer, inputs, **options):
    """The layer takes an unknown batch size in a functional model, and repeats its output there."""
    layer = make_layer()
    layer(*inputs, **options)
    rewind(layer)
    outputs = layer(*inputs, **options)
    rewind(layer)
    symbols = [
        keras.Input(i.shape[1:], dtype=keras.backend.standardize_dtype(i.dtype)) for i in inputs
    ]
    model = keras.Model(symbols, layer(*symbols, **options))
    rewind(layer)
    results = tf.function(model)(list(inputs))
    for result, expected in zip(as_arrays(results), as_arrays(outputs), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
