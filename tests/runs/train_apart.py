"""Trains in a process of its own, on the devices that its arguments name.

    python train_apart.py WHAT DISTRIBUTE NUM_CPUS PHOTOS RUN STEPS MINUTES

WHAT is `context`, `attributes` (of features), `patches` (attributes of a network), `clusters` (the
networks that learn from them) or `plain`, an ordinary Keras model with ordinary `fit`; MINUTES is
how long workers wait for each other.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

WHAT, DISTRIBUTE, NUM_CPUS, PHOTOS, RUN = sys.argv[1:6]
STEPS, MINUTES = int(sys.argv[6]), float(sys.argv[7])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * int(NUM_CPUS),
)

import keras  # noqa: E402 - devices are set before they are used

from keras_ctxattr.runs.distribution import open_devices  # noqa: E402

LABELS = np.repeat(np.arange(6), 8)


def train_context():
    from keras_ctxattr.context.recipe import ContextRecipe
    from keras_ctxattr.context.training import train_context
    from keras_ctxattr.data.grids import GridConfig

    grids = GridConfig(
        patch_size=32,
        gap=16,
        min_pixels=12_000,
        max_pixels=16_000,
        grids_per_image=2,
        images_per_batch=4,
        patches_per_batch=24,
        pairs_per_batch=80,
        num_groups=2,
    )
    recipe = ContextRecipe(
        backbone="compact",
        backbone_options={"num_features": 16, "width": 4},
        hidden_units=16,
        dropout=0.2,
        grids=grids,
        learning_rate=0.002,  # rounding grows from step to step, and faster at higher rates
        evaluate_every=3 if STEPS < 10 else 10,
        dtype_policy="float32",
        checkpoint_minutes=0.0001,
    )
    devices = open_devices(DISTRIBUTE, deadline_minutes=MINUTES)
    return train_context([PHOTOS], RUN, recipe, steps=STEPS, held_out=0.25, devices=devices)


def train_attributes():
    from keras_ctxattr.attributes import AttributeRecipe, learn_attributes

    generator = np.random.default_rng(0)
    vectors = np.eye(6, 12)[LABELS] + 0.3 * generator.standard_normal((48, 12))
    recipe = AttributeRecipe(
        num_attributes=8, batch_size=24, passes=STEPS // 2, min_steps=1, learning_rate=0.01
    )
    devices = open_devices(DISTRIBUTE, deadline_minutes=MINUTES)
    return learn_attributes(vectors.astype("float32"), LABELS, RUN, recipe, devices=devices)


def train_patches():
    """The hasher with its network, which sees transformed patches."""
    from keras_ctxattr.attributes import AttributeRecipe, learn_attributes
    from keras_ctxattr.backbones import small

    generator = np.random.default_rng(0)
    concepts = generator.integers(0, 256, (6, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noise = generator.integers(-40, 40, (48, 32, 32, 3))
    patches = np.clip(concepts[LABELS] + noise, 0, 255).astype("uint8")
    recipe = AttributeRecipe(num_attributes=8, batch_size=24, passes=STEPS // 2, min_steps=1)
    devices = open_devices(DISTRIBUTE, deadline_minutes=MINUTES)
    keras.utils.set_random_seed(0)
    backbone = small(width=8, num_features=16)
    return learn_attributes(patches, LABELS, RUN, recipe, backbone=backbone, devices=devices)


def train_clusters():
    """A round of clustering and learning; its network transforms patches, and drops units."""
    from keras_ctxattr.clustering import alternate_clusters
    from tests.clustering.concepts import TINY

    devices = open_devices(DISTRIBUTE, deadline_minutes=MINUTES)
    # AdamW takes whole steps along gradients that are hardly more than rounding: small ones.
    recipe = dataclasses.replace(TINY, learning_rate=1e-4)
    return alternate_clusters([PHOTOS], RUN, recipe, rounds=1, seed=3, devices=devices)


def train_plainly():
    """What `keras_faults` contains: an ordinary model, an ordinary `fit`."""
    devices = open_devices(DISTRIBUTE, deadline_minutes=MINUTES)
    with devices.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    features = np.ones((16, 4), "float32")
    batches = tf.data.Dataset.from_tensor_slices((features, features[:, :1])).batch(8).repeat()
    model.fit(batches, steps_per_epoch=2, verbose=0)
    Path(RUN).mkdir()


if __name__ == "__main__":
    trained = {
        "context": train_context,
        "attributes": train_attributes,
        "patches": train_patches,
        "clusters": train_clusters,
        "plain": train_plainly,
    }
    print(trained[WHAT]())
