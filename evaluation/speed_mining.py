"""Mining: features of whole photographs beside crops, and how searching grows with the collection.

- `mining_describe`: photographs per second whose patches are described by passes over the whole
  photograph, and by the same module on all patches cut out of it.
- `mining_exact_N` and `mining_quantised_N`, of N images: constellations per second that the search
  looks for in them; its baseline is the exact search.
- `mining_index_N`: images per second that the quantised index is built of, once for any number of
  constellations; its baseline is those that the exact search looks through.
- `mining_exact_N_memory`, `mining_index_N_memory` and `mining_quantised_N_memory`: megabytes that
  each takes at its highest, besides features on the disk (and the index, while it is searched); the
  baseline is all features as float32.

The N images are crops of the photographs, repeated: rows and columns of patches at their edges are
left out at random.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from evaluation.memory import watch_memory
from evaluation.speed_context import Measurements
from keras_ctxattr.backbones import alexnet
from keras_ctxattr.data.images import load_images, resize_image
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.export import export_module
from keras_ctxattr.tasks.mining import describe_by_module
from keras_ctxattr.tasks.mining.dense import DenseFeatures, extract_dense
from keras_ctxattr.tasks.mining.describing import DenseDescriber
from keras_ctxattr.tasks.mining.matching import build_index, match_by_index, match_exactly

_CROPPED = 0.2  # of the rows, and of the columns, at most
_BATCH = 64  # patches described at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is described and searched.

    Attributes:
        images: photographs: folders or archives.
        num_described: photographs that are described, at least 2.
        num_images: sizes of the collections that are searched.
        constellations: constellations that are looked for.
        rounds: alternations of both ways to describe.
        seed: of weights and crops.
    """

    images: Sequence[str]
    num_described: int = 40
    num_images: Sequence[int] = (1000, 10_000)
    constellations: int = 512
    rounds: int = 3
    seed: int = 0


def measure(workload: Workload) -> Measurements:
    """Gives the figures of the module's docstring."""
    keras.utils.set_random_seed(workload.seed)
    manifest = scan_images(workload.images).usable()
    chosen = manifest.select(np.arange(min(workload.num_described, len(manifest))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = export_module(alexnet(num_features=1024), folder / "module")
        describer = describe_by_module(module)
        features = extract_dense(chosen, describer, folder / "features")
        found = _measure_describing(
            chosen, features, describer, tf.saved_model.load(str(module)), workload.rounds
        )
        for count in workload.num_images:
            repeated = _repeat(features, count, folder / f"{count}.npy", workload.seed)
            found |= _measure_searches(repeated, count, workload)
    return found


# --- Describing ---


def _measure_describing(
    manifest: Manifest,
    features: DenseFeatures,
    describer: DenseDescriber,
    module: Any,
    rounds: int,
) -> Measurements:
    lattice = features.lattice
    image = next(iter(load_images(manifest)))["image"]
    scaled = [
        resize_image(image, tf.constant(lattice.sides(shape)))
        for shape in lattice.shapes(*image.shape[:2])
    ]
    sides: dict[str, Callable[[], None]] = {
        "whole": lambda: _describe_whole(describer, scaled),
        "cut": lambda: _describe_cut(module, scaled, describer),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    whole, cut = (float(np.median(seconds[side][1:])) for side in sides)  # the first ones trace
    return {"mining_describe": {"value": 1 / whole, "baseline": 1 / cut, "ratio": cut / whole}}


def _describe_whole(describer: DenseDescriber, scaled: list[tf.Tensor]) -> None:
    for image in scaled:
        describer.describe(image)


def _describe_cut(module: Any, scaled: list[tf.Tensor], describer: DenseDescriber) -> None:
    side, step = describer.patch_size, describer.stride
    for image in scaled:
        patches = tf.image.extract_patches(
            image[None], [1, side, side, 1], [1, step, step, 1], [1, 1, 1, 1], "VALID"
        )
        flat = tf.reshape(patches, [-1, side, side, 3]) / 255
        for start in range(0, len(flat), _BATCH):
            module(flat[start : start + _BATCH])


# --- Searching ---


def _repeat(features: DenseFeatures, count: int, path: Path, seed: int) -> DenseFeatures:
    """Gives the features of crops of the photographs, in a file that is mapped."""
    generator = np.random.default_rng(seed)
    sources = np.arange(count) % len(features.manifest)
    kept = [_crop(features, int(source), generator) for source in sources]
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])])
    vectors = np.lib.format.open_memmap(
        path, "w+", np.float16, (int(starts[-1]), features.num_dims)
    )
    for number, rows in enumerate(kept):
        vectors[starts[number] : starts[number + 1]] = features.vectors[rows]
    vectors.flush()
    return dataclasses.replace(
        features,
        manifest=features.manifest.select(sources),
        starts=starts,
        vectors=np.load(path, mmap_mode="r"),
    )


def _crop(features: DenseFeatures, image: int, generator: np.random.Generator) -> np.ndarray:
    """Gives the rows of a photograph's patches that lie inside a crop drawn at random."""
    boxes = features.boxes_of(image)
    size = boxes[:, 2:].max(axis=0)
    low, high = (generator.uniform(0, _CROPPED / 2, 2) * size for _ in range(2))
    inside = (boxes[:, :2] >= low - 1).all(axis=1) & (boxes[:, 2:] <= size - high + 1).all(axis=1)
    rows = np.flatnonzero(inside)
    return features.starts[image] + (rows if len(rows) else np.arange(len(boxes)))


def _measure_searches(features: DenseFeatures, count: int, workload: Workload) -> Measurements:
    generator = np.random.default_rng(workload.seed)
    owners = generator.integers(0, count, workload.constellations)
    shares = generator.random((workload.constellations, 4))
    sizes = np.diff(features.starts)[owners]
    rows = features.starts[owners][:, None] + (shares * sizes[:, None]).astype(np.int64)
    queries = features.vectors[rows.ravel()].reshape(*rows.shape, -1).astype(np.float32)
    indices: list[Any] = []
    runs: dict[str, Callable[[], Any]] = {
        "exact": lambda: match_exactly(features, queries, owners),
        "index": lambda: indices.append(build_index(features)),
        "quantised": lambda: match_by_index(features, indices[0], queries, owners),
    }
    watched = {name: watch_memory(run) for name, run in runs.items()}
    done = {"exact": len(queries), "index": count, "quantised": len(queries)}
    everything = len(features.vectors) * features.num_dims * 4 / 1e6
    found: Measurements = {}
    for name, (seconds, megabytes) in watched.items():
        rate, exact = done[name] / seconds, done[name] / watched["exact"][0]
        found[f"mining_{name}_{count}"] = {"value": rate, "baseline": exact, "ratio": rate / exact}
        found[f"mining_{name}_{count}_memory"] = {
            "value": megabytes,
            "baseline": everything,
            "ratio": megabytes / everything,
        }
    return found
