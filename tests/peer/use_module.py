"""Run by the interpreter of the peer: uses a module as somebody without this package would.

    python use_module.py MODULE ARRAYS.npz

ARRAYS: `patches`, `photo`, `encoded`, and what the making TensorFlow gave for them: features, and
of a module with attributes these and their codes.
"""

import importlib.util
import sys

import numpy as np
import tensorflow as tf


def check_results(module, arrays):
    served = module.signatures["serve_bytes"](encoded=tf.constant(list(arrays["encoded"])))
    found = {
        "patch_features": module(arrays["patches"]),
        "photo_features": module(arrays["photo"]),
        **{f"served_{name}": value for name, value in served.items()},
    }
    for name in served.keys() - {"features"}:
        found[f"photo_{name}"] = module.signatures[name](images=tf.constant(arrays["photo"]))[name]
    assert found.keys() == arrays.keys() - {"patches", "photo", "encoded"}
    for name, value in found.items():
        if name.endswith("_codes"):
            check_codes(name, value.numpy(), arrays)
        else:
            check_close(name, value.numpy(), arrays[name])


def check_close(name, found, expected):
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name}: largest difference {error:.1e} of the largest")
    assert error < 1e-4, name


def check_codes(name, found, arrays):
    """All bits must be the same but those of scores near 0, which rounding decides."""
    scores = arrays[name.replace("_codes", "_attributes")]
    is_clear = np.abs(scores) > 2e-4 * np.abs(scores).max()
    assert is_clear.mean() > 0.9
    assert found.dtype == np.uint8
    bits = np.unpackbits(found, axis=1)
    assert np.array_equal(bits[is_clear], (scores > 0)[is_clear]), name
    assert np.array_equal(bits[is_clear], np.unpackbits(arrays[name], axis=1)[is_clear]), name


def fine_tune(module, patches, steps=5):
    """Gives the loss of each step of a two-class problem."""
    labels = np.arange(len(patches)) % 2
    head = tf.keras.layers.Dense(2)
    head.build((None, module(patches).shape[-1]))
    optimizer = tf.keras.optimizers.legacy.Adam(1e-3)
    losses = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            logits = head(module(patches, training=True))
            loss = tf.reduce_mean(
                tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            )
        variables = [*module.trainable_variables, *head.trainable_variables]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses.append(float(loss))
    return losses


def main(directory, archive):
    assert tf.__version__.startswith("2.15."), tf.__version__
    assert importlib.util.find_spec("keras_ctxattr") is None
    arrays = dict(np.load(archive))
    module = tf.saved_model.load(directory)
    check_results(module, arrays)
    before = [variable.numpy() for variable in module.variables]
    losses = fine_tune(module, arrays["patches"])
    print("losses:", losses)
    assert losses[-1] < losses[0]
    for old, variable in zip(before, module.variables, strict=True):
        assert np.any(old != variable.numpy()), f"{variable.name} did not change"


if __name__ == "__main__":
    main(*sys.argv[1:])
