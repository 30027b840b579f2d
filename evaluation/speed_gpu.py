"""The share of a GPU's peak that training reaches."""

import fnmatch
import sys

import keras
import numpy as np
import tensorflow as tf

# Dense half precision (bfloat16; float16 where there is none) in TFLOP/s, from NVIDIA's data sheets
# and architecture papers. Patterns of the names that drivers give, without the maker.
PEAK_TFLOPS = {
    "H200": 989,
    "H200 NVL": 835,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100 80GB HBM3": 989,
    "A100[- ]*": 312,
    "A10": 125,
    "A30": 165,
    "L4": 121,
    "L40S": 362,
    "V100-SXM2-*": 125,
    "V100-PCIE-*": 112,
    "T4": 65,
    "GeForce RTX 4090": 165,
}
_MAKERS = ("NVIDIA ", "Tesla ")
_SLICED = "MIG"  # in the name of a part of a GPU


def peak_tflops(device_name: str) -> float | None:
    """Gives the peak of a GPU, or None if it is not in the table.

    Args:
        device_name: as the driver calls it, such as "NVIDIA A100-SXM4-80GB".
    """
    name = device_name
    for maker in _MAKERS:
        name = name.removeprefix(maker)
    if _SLICED in name.split():
        return None
    fitting = (peak for kind, peak in PEAK_TFLOPS.items() if fnmatch.fnmatchcase(name, kind))
    return next(fitting, None)


def find_peak(given: float | None = None) -> float | None:
    """Gives the peak in TFLOP/s of the GPU that is used; without it says so on the error stream.

    Args:
        given: the peak, if the user knows better.
    """
    if given is not None:
        return given
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    name = details.get("device_name", "without a name")
    peak = peak_tflops(name)
    if peak is None:
        print(
            f"The peak of this GPU ({name}) is not known here: no share of it is stated. Give it "
            "with --peak-tflops (dense, half precision).",
            file=sys.stderr,
        )
    return peak


def count_flops(backbone: keras.Model, hidden_units: int, patches: int, pairs: int) -> float:
    """Counts the multiplications and additions of one training step, convolutions and products.

    A step costs three forward passes: the gradients of weights and of inputs cost one each.
    """
    forward = 0.0
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            forward += 2.0 * np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            forward += 2.0 * np.prod(layer.kernel.shape)
    num_features = backbone.output_shape[-1]
    per_patch = forward + 4.0 * num_features * hidden_units
    per_pair = 2.0 * hidden_units * (hidden_units + 8)
    return 3 * (patches * per_patch + pairs * per_pair)
