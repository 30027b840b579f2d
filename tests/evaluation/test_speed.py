import json
import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from evaluation import peak_memory, speed, speed_context
from evaluation.speed_context import TwoTowers, Workload, alternate, grid_batch
from evaluation.speed_gpu import count_flops, find_peak, peak_tflops
from keras_ctxattr.backbones import alexnet, compact
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.data.manifest import scan_images


def both_forms():
    """Gives both forms with the same weights, without batch normalisation or draws that differ."""
    models = []
    for kind in (ContextPredictor, TwoTowers):
        keras.utils.set_random_seed(0)
        backbone = compact(width=4, num_features=8)
        models.append(kind(backbone, hidden_units=8, jitter=0, colour="none"))
    ours, towers = models
    towers.backbone.set_weights(ours.backbone.get_weights())
    halves = [ours.head.fc7_first.kernel.numpy(), ours.head.fc7_second.kernel.numpy()]
    towers.head.fc7_first.kernel.assign(np.concatenate(halves))
    towers.head.fc8.set_weights(ours.head.fc8.get_weights())
    towers.head.fc9.set_weights(ours.head.fc9.get_weights())
    return ours, towers


def test_both_sides_of_the_comparison_are_the_same_function():
    ours, towers = both_forms()
    assert ours.count_params() == towers.count_params()
    batch = grid_batch(1)
    expected = np.asarray(ours(batch, training=False))
    assert expected.std() > 0.01
    np.testing.assert_allclose(towers(batch, training=False), expected, rtol=1e-3, atol=1e-3)


def test_a_grid_has_84_pairs_where_their_position_says():
    batch = {name: np.asarray(value) for name, value in grid_batch(2).items()}
    assert batch["pairs"].shape == (168, 3)
    first, second, position = batch["pairs"].T
    assert (batch["corners"][first, 0] == batch["corners"][second, 0]).all()
    step = (batch["corners"][second, 1:] - batch["corners"][first, 1:]) // 144
    code = (step + 1) @ [3, 1]
    np.testing.assert_array_equal(position, [[0, 1, 2, 3, -1, 4, 5, 6, 7][c] for c in code])


def test_a_released_batch_has_typical_pairs(sources):
    manifest = scan_images(sources).usable()
    batch = speed_context.released_batch(manifest, Workload(images=sources, pairs=256))
    assert len(batch["pairs"]) == 256
    assert batch["pair_mask"].numpy().any()


def test_sides_alternate_and_the_median_counts():
    order = []
    times = iter([9.0, 1.0, 2.0, 5.0, 3.0, 1.0, 100.0, 2.0])

    def call(name):
        order.append(name)
        return next(times)

    medians = alternate({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert medians == {"a": 3.0, "b": 2.0}


def test_operations_by_hand():
    inputs = keras.Input((8, 8, 3))
    flow = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(flow))
    per_patch = 2 * (27 * 2 * 64 + 128 * 5) + 4 * 5 * 4
    per_pair = 2 * (4 * 4 + 4 * 8)
    assert count_flops(keras.Model(inputs, outputs), 4, 3, 7) == 3 * (3 * per_patch + 7 * per_pair)


def test_all_figures_are_there(sources, monkeypatch, tmp_path):
    def small(preset, num_features):
        return compact(width=4, num_features=num_features)

    monkeypatch.setattr(speed_context, "alexnet", small)
    monkeypatch.setattr(
        speed_context, "_measure_memory", lambda manifest: {"value": 1, "baseline": 1, "ratio": 1}
    )
    workload = Workload(images=sources, pairs=256, rounds=1, num_images=28, hidden_units=8)
    monkeypatch.setitem(speed.STAGES, "context", lambda _: speed_context.measure(workload))
    config = speed.Config(only="context", images=sources, json=tmp_path / "speed.json")
    figures = speed.main(config)
    assert set(figures) >= {
        "context_pairs_per_second",
        "context_pairs_per_second_released",
        "context_pairs_per_second_4x4",
        "images_per_second",
        "images_per_second_of_decoding",
        "bfloat16",
        "peak_memory",
    }
    for one in figures.values():
        assert set(one) == {"value", "baseline", "ratio"}
        assert one["value"] > 0
        assert one["ratio"] == pytest.approx(one["value"] / one["baseline"])
    # The name that targets are stated for is the figure of the default sampling.
    released = figures["context_pairs_per_second_released"]
    assert figures["context_pairs_per_second"] == released
    assert json.loads((tmp_path / "speed.json").read_text()) == figures


def test_peak_memory_reads_the_batches(sources, tmp_path):
    scan_images(sources).save(tmp_path / "images.sqlite")
    config = peak_memory.Config(manifest=tmp_path / "images.sqlite", num_steps=1)
    before = peak_kilobytes()
    megabytes = peak_memory.main(config)["peak_megabytes"]
    assert before * 1024 / 1e6 <= megabytes <= peak_kilobytes() * 1024 / 1e6


def peak_kilobytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform != "darwin" else peak / 1024


# ---- the GPU's line, without a GPU ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla T4", 65),
        ("NVIDIA L4", 121),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165),
        # A part of a GPU, slower relatives, and what came after this table.
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A10G", None),
        ("NVIDIA X900", None),
    ],
)
def test_peaks_belong_to_exactly_their_device(name, peak):
    assert peak_tflops(name) == peak


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU of a name of the test's choice."""
    details = {}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    return details


def measured_peak(peak_of_flag=None):
    workload = Workload(images=[], peak_tflops=peak_of_flag, hidden_units=8)
    return speed_context._measure_peak(grid_batch(1), 1000.0, workload)


def test_the_share_of_the_peak_is_a_figure_like_the_others(gpu, monkeypatch):
    # Without `--peak-tflops` the entry was {"value"} alone: no share, and another shape.
    monkeypatch.setattr(speed_context, "alexnet", lambda _, num_features: compact(width=4))
    gpu["device_name"] = "Tesla T4"
    flops = count_flops(compact(width=4), 8, 16, 84) * 1000 / 84
    expected = {"value": flops / 1e12, "baseline": 65, "ratio": flops / 65e12}
    assert measured_peak()["tflops"] == pytest.approx(expected)
    assert measured_peak(130.0)["tflops"]["ratio"] == pytest.approx(expected["ratio"] / 2)


def test_an_unknown_gpu_is_one_note_and_no_figure(gpu, capsys):
    gpu["device_name"] = "NVIDIA X900"
    assert measured_peak() == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert "NVIDIA X900" in line
    assert "--peak-tflops" in line
    assert find_peak(500.0) == 500.0
    del gpu["device_name"]
    assert measured_peak() == {}


def test_missing_photographs_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CTXATTR_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="Give `--images`"):
        speed.main(speed.Config(only="context"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"only": "lunch"}, "`--only` must be one of context, "),
        ({"pairs": 10}, "`--pairs` must be at least 256. Received: 10"),
        ({"rounds": 0}, "--rounds"),
        ({"peak_tflops": 0.0}, "`--peak-tflops` must be a finite number over 0. Received: 0.0"),
        ({"peak_tflops": float("nan")}, "--peak-tflops"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        speed.Config(**change)


def test_machine_facts_name_the_version():
    assert tf.__version__ in speed.machine_facts()


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("pretext_accuracy", "--run nowhere --out {out}", "no run folder"),
        ("speed", "--bogus 1", "--bogus"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(module, flags, message, tmp_path):
    command = [sys.executable, "-m", f"evaluation.{module}"]
    command += flags.format(out=tmp_path / "out").split()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.count("error:") == 1


def test_a_real_alexnet_costs_about_a_billion_operations_a_patch():
    flops = count_flops(alexnet("released", num_features=4096), 4096, 1, 0)
    assert 1e9 < flops < 1e10
