"""The features of all patches of a collection: made once, kept on the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.images import load_images, resize_image
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.shards import ShardedArray, TableFolder
from keras_ctxattr.runs import write_atomically
from keras_ctxattr.tasks.mining.describing import DenseDescriber
from keras_ctxattr.tasks.mining.lattices import Lattice

KIND = "dense features"

_NUM_SAMPLED = 64  # photographs from which the projection is learnt
_SAMPLED_ROWS = 512  # patches of each, at most
_SHARD_ROWS = 16_384
_MIN_NORM = 1e-12
_MIN_SHARE = 1e-6  # of the largest variance: smaller ones are rounding
Progress = Callable[[int, int | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DenseFeatures:
    """The patches of photographs, and their features.

    Attributes:
        manifest: The photographs.
        lattice: Where their patches lie.
        starts: int64 `[photographs + 1]`: a photograph's first patch, and after the last the end.
        vectors: Float16 `[patches, num_dims]` of length 1, photograph after photograph, in the
            order of `Lattice.boxes`; memory-mapped, or an array.
        kept: Share of the features' variance that the projection keeps.
    """

    manifest: Manifest
    lattice: Lattice
    starts: np.ndarray
    vectors: ShardedArray | np.ndarray
    kept: float

    @property
    def num_dims(self) -> int:
        """Length of a vector."""
        return self.vectors.shape[1]

    def vectors_of(self, image: int) -> np.ndarray:
        """Gives the vectors of a photograph by its row, float32 `[patches, num_dims]`."""
        return self.vectors[self.starts[image] : self.starts[image + 1]].astype(np.float32)

    def boxes_of(self, image: int) -> np.ndarray:
        """Gives the patches of a photograph by its row, as `Lattice.boxes` does."""
        return self.lattice.boxes(*_size(self.manifest, image))


def extract_dense(
    manifest: Manifest,
    describer: DenseDescriber,
    folder: str | Path,
    *,
    num_dims: int = 256,
    whitening: float = 0.25,
    lattice: Lattice | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DenseFeatures:
    """Describes the patches of photographs on a lattice, a pass for each photograph and scale.

    Vectors are centred, projected to their first principal directions, each divided by a power of
    its variance, and brought to length 1: a product is the cosine of both. The paper's cosine is of
    the features as they are; there, few directions in which all patches differ hide the others.

    Killed at any moment, the same call goes on after the whole shards and ends with the same bytes.

    Args:
        manifest: Usable photographs.
        describer: What describes them.
        folder: New, empty, or holding this table or a part of it.
        num_dims: Length of a vector, at most; features shorter than that stay whole.
        whitening: The power, 0 to .5: 0 only centres, .5 gives all directions the same variance.
        lattice: Where patches lie; of the describer's patch and stride. None for the default.
        seed: Of the choice of photographs from which the projection is learnt.
        progress: Called with (patches described, all of them).

    Raises:
        ValueError: If the lattice is not the describer's, the folder holds something else, or
            features are not finite.
    """
    lattice = lattice or Lattice(patch_size=describer.patch_size, stride=describer.stride)
    if (lattice.patch_size, lattice.stride) != (describer.patch_size, describer.stride):
        raise ValueError(
            "`lattice` must have the patch and stride of the describer. Received: "
            f"{lattice.patch_size} and {lattice.stride} for {describer.patch_size} and "
            f"{describer.stride}"
        )
    if num_dims < 1 or not 0 <= whitening <= 0.5:
        raise ValueError(
            "`num_dims` must be at least 1, and `whitening` 0 to .5. "
            f"Received: num_dims={num_dims}, whitening={whitening}"
        )
    counts = [
        sum(rows * columns for rows, columns in lattice.shapes(*_size(manifest, image)))
        for image in range(len(manifest))
    ]
    starts = np.concatenate([[0], np.cumsum(counts)])
    table = TableFolder.start(
        folder,
        KIND,
        {
            "images": manifest.digest(),
            "describer": describer.config,
            "lattice": lattice.config,
            "num_dims": num_dims,
            "whitening": whitening,
            "seed": seed,
        },
        num_rows=int(starts[-1]),
        shard_rows=_SHARD_ROWS,
    )
    with table.lock():
        job = _Job(manifest, describer, lattice, starts)
        missing = table.missing_shards()
        if missing:
            projection = _learn_projection(table.path, job, num_dims, whitening, seed)
            job.fill(table, missing, projection, progress)
        kept = _learn_projection(table.path, job, num_dims, whitening, seed).kept
    return DenseFeatures(
        manifest=manifest,
        lattice=lattice,
        starts=starts,
        vectors=table.column("vectors"),
        kept=kept,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Projection:
    """From features to vectors of length 1."""

    mean: np.ndarray
    basis: np.ndarray
    kept: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return _normalize((_normalize(features) - self.mean) @ self.basis)


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """Photographs to describe, and how."""

    manifest: Manifest
    describer: DenseDescriber
    lattice: Lattice
    starts: np.ndarray

    def describe(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Gives the features of photographs by their rows, float32 `[patches, num_features]`."""
        for image, one in zip(images, load_images(self.manifest.select(images)), strict=True):
            parts = []
            for shape in self.lattice.shapes(*_size(self.manifest, int(image))):
                scaled = resize_image(one["image"], tf.constant(self.lattice.sides(shape)))
                found = np.asarray(self.describer.describe(scaled), np.float32)
                if found.shape[:2] != shape:
                    raise ValueError(
                        f"A describer must give a vector a place, {shape} of them for "
                        f"{self.lattice.sides(shape)} pixels. Received: {found.shape[:2]} of "
                        f"{self.describer.name}"
                    )
                parts.append(found.reshape(-1, found.shape[-1]))
            vectors = np.concatenate(parts)
            if not np.isfinite(vectors).all():
                raise ValueError(
                    "Features must be finite. Received: NaN or infinity of "
                    f"{self.describer.name} for {self.manifest.keys[image]}"
                )
            yield vectors

    def fill(
        self,
        table: TableFolder,
        shards: list[int],
        projection: _Projection,
        progress: Progress | None,
    ) -> None:
        """Describes the patches of shards and writes them."""
        ranges = [table.shard_range(shard) for shard in shards]
        done = int(self.starts[-1]) - sum(stop - start for start, stop in ranges)
        for shard, (start, stop) in zip(shards, ranges, strict=True):
            # A photograph that two shards share is described twice.
            first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
            images = np.arange(first, last + 1)
            rows = np.empty((stop - start, projection.basis.shape[1]), np.float16)
            for image, vectors in zip(images, self.describe(images), strict=True):
                low, high = self.starts[image], self.starts[image + 1]
                inside = slice(max(start - low, 0), min(stop, high) - low)
                place = max(low, start) - start
                found = projection(vectors[inside])
                rows[place : place + len(found)] = found
                if progress is not None:
                    progress(done + place + len(found), int(self.starts[-1]))
            table.write_shard(shard, {"vectors": rows})
            done += stop - start


def _learn_projection(
    folder: Path, job: _Job, num_dims: int, whitening: float, seed: int
) -> _Projection:
    """Gives the principal directions of some photographs' features, learnt once and kept."""
    path = folder / "projection.npz"
    if not path.is_file():
        generator = np.random.default_rng(seed)
        images = np.sort(generator.permutation(len(job.manifest))[:_NUM_SAMPLED])
        parts = [generator.permutation(rows)[:_SAMPLED_ROWS] for rows in job.describe(images)]
        unit = _normalize(np.concatenate(parts))
        mean = unit.mean(axis=0)
        centred = unit - mean
        values, directions = np.linalg.eigh(centred.T @ centred / np.float32(len(centred)))
        variances = np.maximum(values[::-1], _MIN_SHARE * max(values[-1], _MIN_NORM))
        basis = (directions[:, ::-1] / variances**whitening)[:, :num_dims]
        kept = variances[:num_dims].sum() / variances.sum()
        with write_atomically(path) as partial, partial.open("wb") as file:
            np.savez(file, mean=mean, basis=basis.astype(np.float32), kept=kept)
    with np.load(path, allow_pickle=False) as stored:
        return _Projection(stored["mean"], stored["basis"], float(stored["kept"]))


def _normalize(vectors: np.ndarray) -> np.ndarray:
    """Brings vectors to length 1; those of length 0 stay 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _MIN_NORM)


def _size(manifest: Manifest, image: int) -> tuple[int, int]:
    return int(manifest.heights[image]), int(manifest.widths[image])
