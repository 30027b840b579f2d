"""Speed of context prediction: training steps, input pipeline, half precision, memory.

Every figure is `{value, baseline, ratio}`, ratio = value / baseline.

`context_pairs_per_second_released`, `_4x4`: training steps of `ContextPredictor` (each patch once,
pairs gathered) beside the textbook form with the same layers, optimiser and metrics, in which both
patches of every pair are cut, processed and pushed through the shared backbone, and fc7 works on
the concatenated features. Both take the *same pairs* a step (1 008 by default: AlexNet has 63
million weights, and with few pairs their update would dominate both sides; no micro-batches, whose
repeated gradients would only burden the textbook form). `released`: the pairs of a real batch,
padding counted as work but not as pairs; `4x4`: grids of 16 patches with 84 pairs each.
`context_pairs_per_second` without more is the figure of released sampling, the default, again.

`images_per_second`: `grid_batches` beside a bare `tf.data` loop of JPEG decoding (from memory) and
area resizing to sizes of the same law; `images_per_second_of_decoding`: the same beside that loop
without resizing, the ceiling of every pipeline.

`bfloat16`: our step under mixed_bfloat16 beside float32. `peak_memory`: MB that a process takes to
read 300 photographs listed 20 times, beside the same number of batches of the 300. `tflops`, on a
GPU alone: TFLOP/s of our step under mixed_bfloat16 beside the GPU's peak.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from evaluation.speed_gpu import count_flops, find_peak
from keras_ctxattr.backbones import alexnet
from keras_ctxattr.backbones.networks import uniform_initializer
from keras_ctxattr.backbones.precision import dtype_policy
from keras_ctxattr.context.head import PairHead
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import Manifest, scan_images

Measurements = dict[str, dict[str, float]]
_REPEATS = 20  # of every photograph in the long list
_GRID_SIDE = 4
_PITCH, _PATCH = 144, 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What to measure on.

    Attributes:
        images: sources of JPEG photographs.
        pairs: pairs a training step.
        rounds: alternations.
        peak_tflops: peak of the GPU, TFLOP/s; from a table of GPUs if None.
        seed: seed of weights and draws.
        num_images: images of one timing of the input pipeline.
        hidden_units: width of fc6 to fc8.
    """

    images: list[str]
    pairs: int = 1008
    rounds: int = 5
    peak_tflops: float | None = None
    seed: int = 0
    num_images: int = 560
    hidden_units: int = 4096


def measure(workload: Workload) -> Measurements:
    """Gives all figures of the stage."""
    manifest = scan_images(workload.images).usable()
    manifest = manifest.select(manifest.formats == "jpeg")
    if len(manifest) == 0:
        raise ValueError(f"`--images` must hold JPEG photographs. Received: {workload.images}")
    released, grids = released_batch(manifest, workload), grid_batch(workload.pairs // 84 or 1)
    towers = _measure_towers(released, workload)
    figures = {
        **_measure_input(manifest, workload),
        "peak_memory": _measure_memory(manifest),
        "context_pairs_per_second": towers,
        "context_pairs_per_second_released": dict(towers),
        "context_pairs_per_second_4x4": _measure_towers(grids, workload),
        "bfloat16": _measure_policies(released, workload),
    }
    if tf.config.list_physical_devices("GPU"):
        figures |= _measure_peak(released, figures["bfloat16"]["value"], workload)
    return figures


def alternate(functions: Mapping[str, Callable[[], float | None]], rounds: int) -> dict[str, float]:
    """Gives each function's median time in seconds over rounds that alternate between them.

    Args:
        functions: what to time; each is called once before. A function may give a time of its own.
        rounds: how often each is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            own = function()
            seconds[name].append(time.perf_counter() - began if own is None else own)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _compared(value: float, baseline: float) -> dict[str, float]:
    return {"value": value, "baseline": baseline, "ratio": value / baseline}


# --- training steps ------------------------------------------------------------------------------


def released_batch(manifest: Manifest, workload: Workload) -> dict[str, Any]:
    """Gives a real batch in the proportions of the default one, typical in its number of pairs."""
    default = GridConfig()
    num_patches = round(workload.pairs * default.patches_per_batch / default.pairs_per_batch)
    share = num_patches / default.patches_per_batch
    config = GridConfig(
        images_per_batch=max(1, round(share * default.images_per_batch)),
        patches_per_batch=num_patches,
        pairs_per_batch=workload.pairs // 2 * 2,
    )
    batches = list(grid_batches(manifest, config, seed=workload.seed, num_steps=9))
    batches.sort(key=lambda batch: int(tf.reduce_sum(tf.cast(batch["pair_mask"], tf.int32))))
    return batches[len(batches) // 2]


def grid_batch(num_grids: int, seed: int = 0) -> dict[str, Any]:
    """Gives one 4 x 4 grid an image, with all 84 ordered pairs of neighbours, on noise."""
    places = np.stack(np.divmod(np.arange(_GRID_SIDE**2), _GRID_SIDE), -1)  # [patch, axis]
    difference = places[None] - places[:, None]  # [first, second, axis]
    first, second = np.nonzero(np.abs(difference).max(-1) == 1)
    code = (difference[first, second] + 1) @ np.array([3, 1])
    pairs = np.stack([first, second, code - (code > 4)], -1)
    side = _PITCH * (_GRID_SIDE - 1) + _PATCH + 16
    grids = np.arange(num_grids)
    offsets = grids[:, None, None] * np.array([_GRID_SIDE**2, _GRID_SIDE**2, 0])
    corners = np.pad(places * _PITCH + 8, ((0, 0), (1, 0)))
    corners = corners[None] + grids[:, None, None] * np.array([1, 0, 0])
    noise = np.random.default_rng(seed).integers(0, 256, (num_grids, side * side, 3), np.uint8)
    return {
        "canvases": tf.constant(noise),
        "sizes": tf.constant([[side, side]] * num_grids, tf.int32),
        "corners": tf.constant(corners.reshape(-1, 3), tf.int32),
        "pairs": tf.constant((pairs[None] + offsets).reshape(-1, 3), tf.int32),
        "seed": tf.constant([seed, 1], tf.int32),
    }


@keras.saving.register_keras_serializable(package="keras_ctxattr_speed")
class ConcatenatingHead(PairHead):
    """fc7 to fc9 in the textbook form: fc7 sees both feature vectors, one after the other."""

    def build(self, features_shape: Any, *_: Any, **__: Any) -> None:
        """Builds fc7 on twice the features; `fc7_second` has no place here and no weights."""
        self.fc7_first.kernel_initializer = uniform_initializer()
        self.fc7_first.build((None, 2 * features_shape[-1]))
        hidden = (None, self.hidden_units)
        for layer in (self.fc8, self.fc9, *self.norms.values()):
            layer.build(hidden)

    def call(
        self,
        features: Any,
        pairs: Any,
        mask: Any = None,
        seeds: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Gives each pair's logits from the features of first, then second patches."""
        first, second = ops.split(features, 2, axis=0)
        both = ops.concatenate([first, second], axis=-1)
        return self._classify(self.fc7_first(both), mask, seeds, training)


@keras.saving.register_keras_serializable(package="keras_ctxattr_speed")
class TwoTowers(ContextPredictor):
    """The textbook form: both patches of every pair go through the backbone."""

    def build(self, input_shape: Any = None) -> None:
        """Builds all layers, with the head of this form."""
        if not self.built:
            head = self.head
            self.head = ConcatenatingHead(head.hidden_units, head.normalized, name="head")
        super().build(input_shape)

    def process_patches(self, batch: dict[str, Any], training: bool | None = None) -> Any:
        """Gives the first patches of all pairs, then the second ones."""
        pairs = batch["pairs"]
        index = ops.concatenate([pairs[:, 0], pairs[:, 1]], axis=0)
        corners = ops.take(batch["corners"], index, axis=0)
        return super().process_patches({**batch, "corners": corners}, training=training)


def make_predictor(kind: type[ContextPredictor], workload: Workload, policy: str) -> Any:
    """Gives a compiled model of either form."""
    keras.utils.set_random_seed(workload.seed)
    with dtype_policy(policy):
        backbone = alexnet("released", num_features=workload.hidden_units)
        model = kind(backbone, hidden_units=workload.hidden_units)
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def training_step(model: ContextPredictor, batch: dict[str, Any]) -> Callable[[], None]:
    """Gives a function that takes one training step and waits for it."""
    step = tf.function(model.train_step)

    def run() -> None:
        float(step(batch)["loss"])

    return run


def _without_padding(batch: dict[str, Any]) -> dict[str, Any]:
    mask = batch.get("pair_mask")
    if mask is None:
        return batch
    kept = {name: value for name, value in batch.items() if name != "pair_mask"}
    return {**kept, "pairs": tf.boolean_mask(batch["pairs"], mask)}


def _measure_towers(batch: dict[str, Any], workload: Workload) -> dict[str, float]:
    plain = _without_padding(batch)
    num_pairs = len(plain["pairs"])
    ours = make_predictor(ContextPredictor, workload, "float32")
    towers = make_predictor(TwoTowers, workload, "float32")
    seconds = alternate(
        {"ours": training_step(ours, batch), "towers": training_step(towers, plain)},
        workload.rounds,
    )
    return _compared(num_pairs / seconds["ours"], num_pairs / seconds["towers"])


def _measure_policies(batch: dict[str, Any], workload: Workload) -> dict[str, float]:
    steps = {
        policy: training_step(make_predictor(ContextPredictor, workload, policy), batch)
        for policy in ("mixed_bfloat16", "float32")
    }
    seconds = alternate(steps, workload.rounds)
    num_pairs = len(_without_padding(batch)["pairs"])
    return _compared(num_pairs / seconds["mixed_bfloat16"], num_pairs / seconds["float32"])


def _measure_peak(batch: dict[str, Any], rate: float, workload: Workload) -> Measurements:
    """Gives the TFLOP/s of our step under mixed_bfloat16 beside the GPU's peak, where known."""
    peak = find_peak(workload.peak_tflops)
    if peak is None:
        return {}
    backbone = alexnet("released", num_features=workload.hidden_units)
    num_pairs = len(_without_padding(batch)["pairs"])
    flops = count_flops(backbone, workload.hidden_units, len(batch["corners"]), num_pairs)
    return {"tflops": _compared(flops * rate / num_pairs / 1e12, peak)}


# --- input ---------------------------------------------------------------------------------------


def _measure_input(manifest: Manifest, workload: Workload) -> Measurements:
    config = GridConfig()
    ours = iter(grid_batches(manifest, config, seed=workload.seed))
    bare = iter(_bare_loop(manifest, workload, resized=True))
    decoded = iter(_bare_loop(manifest, workload, resized=False))
    each = config.images_per_batch
    seconds = alternate(
        {
            "ours": lambda: _time_stream(ours, each, workload.num_images),
            "bare": lambda: _time_stream(bare, 1, workload.num_images),
            "decoded": lambda: _time_stream(decoded, 1, workload.num_images),
        },
        workload.rounds,
    )
    rates = {name: workload.num_images / time for name, time in seconds.items()}
    return {
        "images_per_second": _compared(rates["ours"], rates["bare"]),
        "images_per_second_of_decoding": _compared(rates["ours"], rates["decoded"]),
    }


def _time_stream(stream: Iterator[Any], images_each: int, num_images: int) -> float:
    """Gives the seconds for a number of images, once what had been read ahead is used up."""
    for _ in range(num_images // 4 // images_each):
        next(stream)
    began = time.perf_counter()
    for _ in range(num_images // images_each):
        next(stream)
    return time.perf_counter() - began


def _bare_loop(manifest: Manifest, workload: Workload, *, resized: bool) -> tf.data.Dataset:
    """Gives decoded photographs from memory, endlessly, at sizes of the law of `GridConfig`."""
    read = encoded_reader(manifest)
    encoded = tf.stack([read(tf.constant(row, tf.int64)) for row in range(len(manifest))])
    sizes = tf.constant(_draw_sizes(manifest, workload.seed))

    def load(row: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(encoded[row], channels=3)
        return tf.image.resize(image, sizes[row], method="area") if resized else image

    rows = tf.data.Dataset.range(len(manifest)).repeat()
    # As much is read ahead as by `grid_batches`; a buffer that tunes itself would fill up while the
    # other side is being timed.
    ahead = 2 * GridConfig().images_per_batch
    return rows.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(ahead)


def _draw_sizes(manifest: Manifest, seed: int) -> np.ndarray:
    """Gives (height, width) for each image: a uniform area, redrawn where a side is too short."""
    config, generator = GridConfig(), np.random.default_rng(seed)
    sizes = []
    for height, width in zip(manifest.heights, manifest.widths, strict=True):
        areas = generator.uniform(config.min_pixels, config.max_pixels, 32)
        scales = np.sqrt(areas / (int(height) * int(width)))
        drawn = (scales[:, None] * [height, width]).astype(np.int32)
        lucky = (drawn > config.min_side).all(axis=1)
        sizes.append(drawn[lucky.argmax()])
    return np.array(sizes)


def _measure_memory(manifest: Manifest) -> dict[str, float]:
    rows = np.arange(len(manifest))
    num_steps = len(rows) * _REPEATS // GridConfig().images_per_batch
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for repeats in (_REPEATS, 1):
            path = Path(folder) / f"{repeats}.sqlite"
            manifest.select(np.tile(rows, repeats)).save(path)
            command = [sys.executable, "-m", "evaluation.peak_memory"]
            command += ["--manifest", str(path), "--num-steps", str(num_steps)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"Measuring memory failed: {done.stderr.strip()[-300:]}")
            peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_megabytes"])
    return _compared(*peaks)
