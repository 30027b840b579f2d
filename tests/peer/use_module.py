"""Run by the interpreter of the peer: uses a module as somebody without this package would.

    python use_module.py MODULE ARRAYS.npz

ARRAYS: `patches`, `photo`, `encoded`, and the features that the making TensorFlow gave for them.
"""

import importlib.util
import sys

import numpy as np
import tensorflow as tf


def check_features(module, arrays):
    for name, found in (
        ("patch_features", module(arrays["patches"])),
        ("photo_features", module(arrays["photo"])),
        ("served_features", module.signatures["serve_bytes"](tf.constant(list(arrays["encoded"])))),
    ):
        found = found["features"] if isinstance(found, dict) else found
        error = np.abs(found.numpy() - arrays[name]).max() / np.abs(arrays[name]).max()
        print(f"{name}: largest difference {error:.1e} of the largest feature")
        assert error < 1e-4, name


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
    arrays = np.load(archive)
    module = tf.saved_model.load(directory)
    check_features(module, arrays)
    before = [variable.numpy() for variable in module.variables]
    losses = fine_tune(module, arrays["patches"])
    print("losses:", losses)
    assert losses[-1] < losses[0]
    for old, variable in zip(before, module.variables, strict=True):
        assert np.any(old != variable.numpy()), f"{variable.name} did not change"


if __name__ == "__main__":
    main(*sys.argv[1:])
