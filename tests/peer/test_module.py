"""A module must outlive this package: TensorFlow 2.15 alone loads it and learns on."""

import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import alexnet, compact
from keras_ctxattr.export import export_module
from tests.backbones.trained import give_random_statistics


def write_expected(module: object, target: Path) -> None:
    """Writes inputs and what this TensorFlow gives for them."""
    generator = np.random.default_rng(0)
    patches = generator.uniform(0, 1, (4, 96, 96, 3)).astype("float32")
    photo = generator.uniform(0, 1, (1, 150, 211, 3)).astype("float32")
    pixels = generator.integers(0, 256, (160, 120, 3)).astype("uint8")
    encoded = [tf.io.encode_png(pixels).numpy(), tf.io.encode_png(pixels[:130, :, :1]).numpy()]
    served = module.describe_bytes(tf.constant(encoded))
    names = [name for name in ("attributes", "codes") if name in served]
    of_photo = {name: getattr(module, name)(photo) for name in names}
    np.savez(
        target,
        patches=patches,
        photo=photo,
        encoded=np.array(encoded),
        patch_features=module(patches),
        photo_features=module(photo),
        **{f"served_{name}": value for name, value in served.items()},
        **{f"photo_{name}": value for name, value in of_photo.items()},
    )


def make_backbone(network: str) -> keras.Model:
    """Gives a small network whose normalisation does something."""
    keras.utils.set_random_seed(0)
    if network == "alexnet":
        return give_random_statistics(alexnet(num_features=16))
    return give_random_statistics(compact(width=8, num_features=16))


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "unit"),
    [("compact", None), ("alexnet", None), ("compact", "patch"), ("compact", "image")],
)
def test_tensorflow_215_loads_and_fine_tunes_a_module(
    peer_python: Path, tmp_path: Path, network: str, unit: str | None
) -> None:
    model: keras.Model = make_backbone(network)
    if unit is None:
        target = export_module(model, tmp_path / "module")
    else:
        hasher = AttributeHasher(model, num_attributes=16, seed=0)
        target = export_module(hasher, tmp_path / "module", unit=unit)
    write_expected(tf.saved_model.load(str(target)), tmp_path / "expected.npz")
    script = Path(__file__).with_name("use_module.py")
    # Isolated (-I): neither the checkout nor PYTHONPATH may lend it this package.
    done = subprocess.run(
        [peer_python, "-I", script, target, tmp_path / "expected.npz"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
