"""Nearest neighbours of random patches by their features (Doersch et al. 2015, section 4.1).

    python -m evaluation.nearest_neighbours --run runs/photos --out results/neighbours
    python -m evaluation.nearest_neighbours --module features --module other --images PHOTOS \
        --out results/neighbours

Writes a contact sheet: query | this network | the same network untrained | every module. A minute
for 5 000 patches on two cores. It is a picture to look at: no published figure goes with it.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.report import (
    collect,
    describe_images,
    make_folder,
    print_table,
    track,
    write_results,
)
from keras_ctxattr.context.evaluation import (
    PatchSample,
    backbone_function,
    describe_patches,
    nearest_patches,
    sample_patches,
    shared_neighbours,
    untrained_backbone,
)
from keras_ctxattr.context.training import load_predictor, split_run
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.export import read_module
from keras_ctxattr.pictures import neighbours_sheet, write_png
from keras_ctxattr.runs import Run
from training.flags import parse_flags, run_script

NEAR = 0.1  # fraction of the image's width and of its height
_CHUNK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which features to compare, on which photographs.

    Attributes:
        out: folder of results.json and neighbours.png.
        run: run folder of training.pretrain_context; shown beside its untrained network.
        module: folder of an exported module; may be repeated.
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated; the run's held-out
            images if not given.
        num_queries: number of random patches that are looked up.
        num_patches: number of random patches in which they are looked up (the queries are among
            them).
        num_neighbours: neighbours of each.
        num_rows: queries in the picture.
        seed: seed of patches, rows and untrained weights.
    """

    out: Path
    run: Path | None = None
    module: list[Path] = dataclasses.field(default_factory=list)
    images: list[str] = dataclasses.field(default_factory=list)
    num_queries: int = 1000
    num_patches: int = 5000
    num_neighbours: int = 4
    num_rows: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks that there is something to compare."""
        if not self.run and not self.module:
            raise ValueError("Give `--run`, or `--module`, or both")
        if not self.run and not self.images:
            raise ValueError("Give `--images`: only a run has held-out photographs of its own")
        numbers = (self.num_queries, self.num_patches, self.num_neighbours, self.num_rows)
        if min(numbers) < 1 or self.num_queries > self.num_patches:
            raise ValueError(
                "All numbers must be at least 1, and `--num-queries` at most `--num-patches`. "
                f"Received: queries {self.num_queries}, patches {self.num_patches}, neighbours "
                f"{self.num_neighbours}, rows {self.num_rows}"
            )


def main(config: Config) -> dict[str, Any]:
    """Looks up the neighbours, writes results and picture, and gives the results."""
    out = make_folder(config.out)
    methods, patch_size = _methods(config)
    manifest = _images(config)
    sample = sample_patches(manifest, config.num_patches, patch_size=patch_size, seed=config.seed)
    queries = np.random.default_rng(config.seed).permutation(len(sample))[: config.num_queries]
    found = {
        name: _look_up(name, describe, sample, queries, config.num_neighbours)
        for name, describe in methods.items()
    }
    write_png(out / "neighbours.png", _picture(sample, queries[: config.num_rows], found))
    return write_results(
        out,
        _summarize(sample, queries, found),
        script="evaluation.nearest_neighbours",
        config=config,
        protocol=(
            f"{len(queries)} queries among {len(sample)} random patches of {patch_size} pixels; "
            "cosine of features (not centred), colours as they are, mean and contrast normalised; "
            "one neighbour an image, none from the query's own"
        ),
        images=describe_images(manifest, "as given" if config.images else "held out by the run"),
    )


def _images(config: Config) -> Manifest:
    if config.images or config.run is None:
        return collect(config.images)
    return split_run(Run.read(config.run))[1]


def _methods(config: Config) -> tuple[dict[str, Callable[..., Any]], int]:
    """Gives each method's function from pixels in [0, 1] to features, and the side of a patch."""
    methods: dict[str, Callable[..., Any]] = {}
    sides = []
    if config.run:
        predictor = load_predictor(config.run)
        methods["this network"] = backbone_function(predictor)
        untrained = untrained_backbone(predictor, config.seed)
        methods["untrained"] = backbone_function(predictor, untrained)
        sides.append(predictor.cutter.patch_size)
    for folder in config.module:
        sides.append(read_module(folder)["patch_size"])
        methods[str(folder)] = tf.saved_model.load(str(folder))
    if len(set(sides)) > 1:
        raise ValueError(f"All networks must take patches of one size. Received: {sides} pixels")
    return methods, sides[0]


def _look_up(
    name: str,
    describe: Callable[..., Any],
    sample: PatchSample,
    queries: np.ndarray,
    num_neighbours: int,
) -> tuple[np.ndarray, np.ndarray]:
    starts = range(0, len(sample), _CHUNK)
    features = np.concatenate(
        [
            describe_patches(describe, sample.patches[start : start + _CHUNK])
            for start in track(starts, len(starts), f"times {_CHUNK} patches, {name}")
        ]
    )
    return nearest_patches(
        features[queries],
        features,
        num_neighbours,
        query_images=sample.images[queries],
        gallery_images=sample.images,
    )


def _picture(
    sample: PatchSample, queries: np.ndarray, found: dict[str, tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    neighbours = {
        name: [
            [sample.patches[index] for index in row if index >= 0]
            for row in indices[: len(queries)]
        ]
        for name, (indices, _) in found.items()
    }
    return neighbours_sheet(list(sample.patches[queries]), neighbours, tile_size=72)


def _summarize(
    sample: PatchSample, queries: np.ndarray, found: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Gives what the neighbours have in common with the queries, and the methods with each other.

    A share of neighbours at the query's own place in the image well above chance means that the
    features tell places, by aberration or because the photographs are composed alike.
    """
    values: dict[str, Any] = {
        name: {
            "mean_similarity": float(cosines[indices >= 0].mean()) if (indices >= 0).any() else 0.0,
            "same_place": _same_place(sample, queries, indices),
        }
        for name, (indices, cosines) in found.items()
    }
    everything = np.broadcast_to(np.arange(len(sample)), (len(queries), len(sample)))
    foreign = sample.images[everything] != sample.images[queries][:, None]
    agreement = {
        f"{one} | {other}": shared_neighbours(found[one][0], found[other][0])
        for one, other in itertools.combinations(found, 2)
    }
    return {
        "methods": values,
        "same_place_chance": _same_place(sample, queries, np.where(foreign, everything, -1)),
        "shared_neighbours": agreement,
        "num_queries": len(queries),
        "num_patches": len(sample),
    }


def _same_place(sample: PatchSample, queries: np.ndarray, indices: np.ndarray) -> float:
    """Gives the share of neighbours at about the query's place in its image."""
    differences = np.abs(sample.positions[indices] - sample.positions[queries][:, None])
    near = (differences < NEAR).all(axis=-1)
    found = indices >= 0
    return float(near[found].mean()) if found.any() else 0.0


def report(config: Config) -> None:
    """Looks up the neighbours, and prints one table."""
    results = main(config)
    rows: dict[str, Any] = {
        name: [values["mean_similarity"], f"{values['same_place']:.1%}"]
        for name, values in results["methods"].items()
    }
    rows["chance"] = ["", f"{results['same_place_chance']:.1%}"]
    for names, share in results["shared_neighbours"].items():
        rows[f"neighbours in common: {names}"] = ["", f"{share:.1%}"]
    columns = ("features", "mean cosine", "neighbours at the same place")
    print_table(f"nearest neighbours -> {config.out}/neighbours.png", rows, columns)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
