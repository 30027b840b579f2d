"""Indexing photographs, beside what it cannot do without: decoding them and the network.

- `index`: images per second of `index_photographs`, from its 17th photograph to its end with all
  that is written, over 1 / (1 / `model` + 1 / `decode`), a program that does nothing else.
- `index_model`: images per second of the module alone, on photographs that were decoded and scaled
  before, one at a time or two, whichever is faster.
- `index_decode`: images per second of `decode_image` in `tf.data`, from memory, on all processors.

The module is that of `ctxattr learn` with random weights: the compact network, 64 bits.
"""

import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from evaluation.speed_context import Measurements
from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import compact
from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.export import PHOTO_PIXELS, export_module
from keras_ctxattr.search import index_photographs

_START = 16  # photographs until the graphs are built and the threads are busy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is indexed.

    Attributes:
        images: photographs: folders or archives.
        rounds: alternations of the sides.
        seed: of the weights.
    """

    images: Sequence[str]
    rounds: int = 5
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    keras.utils.set_random_seed(workload.seed)
    manifest = scan_images(workload.images, keep_duplicates=True).usable()
    if len(manifest) <= _START:
        raise ValueError(
            f"Indexing is timed on more than {_START} photographs. Received: {len(manifest)}"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hasher = AttributeHasher(compact(), num_attributes=64)
        module = export_module(hasher, folder / "module", unit="image")
        loaded = tf.saved_model.load(str(module))
        encoded = _read(manifest)
        scaled = [_scale(one) for one in encoded]
        sides = {
            "index": lambda: _time_indexing(workload.images, folder, module),
            "one": lambda: _time_model(loaded, scaled, num_threads=1),
            "two": lambda: _time_model(loaded, scaled, num_threads=2),
            "decode": lambda: _time_decoding(encoded),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _, (side, run) in itertools.product(range(workload.rounds), sides.items()):
            seconds[side].append(run())
    medians = {side: float(np.median(times)) for side, times in seconds.items()}
    model = min(medians["one"], medians["two"])
    best = 1 / (model + medians["decode"])
    rate = 1 / medians["index"]
    return {
        "index": {"value": rate, "baseline": best, "ratio": rate / best},
        "index_model": {"value": 1 / model},
        "index_decode": {"value": 1 / medians["decode"]},
    }


def _read(manifest: Manifest) -> list[bytes]:
    read = encoded_reader(manifest)
    return [read(tf.constant(row, tf.int64)).numpy() for row in range(len(manifest))]


def _scale(encoded: bytes) -> np.ndarray:
    """Gives a photograph as the network sees it, float32 `[1, height, width, 3]` in [0, 1]."""
    image = decode_image(tf.constant(encoded))
    sides = np.array(image.shape[:2])
    size = np.rint(sides * np.sqrt(PHOTO_PIXELS / sides.prod())).astype(int)
    return tf.image.resize(image, size, method="area").numpy()[None] / 255


def _time_indexing(images: Sequence[str], folder: Path, module: Path) -> float:
    """Gives seconds an image, without the first ones."""
    moments: list[float] = []

    def note(done: int, total: int | None) -> None:
        moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=folder) as target:
        index_photographs(images, Path(target) / "index", module, progress=note)
        end = time.perf_counter()
    return (end - moments[_START - 1]) / (len(moments) - _START)


def _time_model(module: Any, scaled: Sequence[np.ndarray], num_threads: int) -> float:
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(module.describe, scaled[:_START]))
        began = time.perf_counter()
        list(pool.map(module.describe, scaled[_START:]))
        return (time.perf_counter() - began) / (len(scaled) - _START)


def _time_decoding(encoded: Sequence[bytes]) -> float:
    files = tf.data.Dataset.from_tensor_slices(tf.constant(list(encoded)))
    pixels = files.map(decode_image, num_parallel_calls=len(os.sched_getaffinity(0)))
    moments = [time.perf_counter() for _ in pixels.prefetch(4)]
    return (moments[-1] - moments[_START - 1]) / (len(moments) - _START)
