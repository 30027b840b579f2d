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

from evaluation.checks import check_counts, check_seed
from evaluation.networks import load_networks
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    track,
    write_results,
)
from keras_ctxattr.context.evaluation import (
    PatchSample,
    describe_patches,
    nearest_patches,
    sample_patches,
    shared_neighbours,
)
from keras_ctxattr.context.training import split_run
from keras_ctxattr.data.manifest import Manifest
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
        check_counts(self, "num_queries", "num_neighbours", "num_rows")
        check_counts(self, "num_patches", at_least=2)
        check_seed(self)
        if self.num_queries > self.num_patches:
            raise ValueError(
                "`--num-queries` must be at most `--num-patches`. "
                f"Received: {self.num_queries} and {self.num_patches}"
            )


def main(config: Config) -> dict[str, Any]:
    """Looks up the neighbours, writes results and picture, and gives the results."""
    out = check_folder(config.out)
    methods, patch_size = load_networks(config.run, config.module, config.seed)
    manifest = _images(config)
    sample = sample_patches(manifest, config.num_patches, patch_size=patch_size, seed=config.seed)
    if len(set(sample.images)) < 2:
        raise ValueError(
            "Neighbours come from other photographs: give at least 2 that are large enough. "
            "Received: 1"
        )
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
            "mean_similarity": float(cosines[indices >= 0].mean()),
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
    return float(near[found].mean())


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
