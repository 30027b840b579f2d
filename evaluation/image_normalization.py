"""How much it changes features that a module normalises an image as a whole, training each patch.

    python -m evaluation.image_normalization --run runs/photos --out results/normalization

Patches are cut from photographs after the whole photograph was normalised, as an exported module
does, and normalised one by one, as in training; the cosine of the two feature vectors is 1 where
it makes no difference. Beside it the cosine of two patches of different photographs: how far apart
features are at all. Seconds on two cores.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, collect, describe_images, print_table, write_results
from keras_ctxattr.context.training import load_predictor, recipe_of, split_run
from keras_ctxattr.data.grids import grid_batches
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.layers import ContrastNormalization
from keras_ctxattr.runs import Run
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which features, on which photographs.

    Attributes:
        run: run folder of training.pretrain_context, preset "released".
        out: folder of results.json.
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated; the run's held-out
            images if not given.
        num_images: number of photographs, at least 2.
        patches_per_image: number of patches of each.
        seed: seed of all draws.
    """

    run: Path
    out: Path
    images: list[str] = dataclasses.field(default_factory=list)
    num_images: int = 50
    patches_per_image: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "num_images", at_least=2)
        check_counts(self, "patches_per_image")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Compares the two, writes the results and gives them."""
    out = check_folder(config.out)
    model = load_predictor(config.run)
    run = Run.read(config.run)
    if recipe_of(run).preset != "released":
        raise ValueError('`--run` must be of preset "released": the other has no contrast to set')
    manifest = collect(config.images) if config.images else split_run(run)[1]
    pairs = list(_patches(manifest, run, config))
    if len(pairs) < 2:
        raise ValueError(
            "Patches of different photographs are compared: give at least 2 that are large "
            f"enough. Received: {len(pairs)}"
        )
    by_image, by_patch = (
        _unit(np.asarray(model.backbone(np.concatenate(side), training=False), "float32"))
        for side in zip(*pairs, strict=True)
    )
    cosines = (by_image * by_patch).sum(axis=-1)
    others = (by_patch * np.roll(by_patch, config.patches_per_image, axis=0)).sum(axis=-1)
    values = {
        "cosine_mean": float(cosines.mean()),
        "cosine_median": float(np.median(cosines)),
        "cosine_5_percent": float(np.quantile(cosines, 0.05)),
        "cosine_of_different_images": float(others.mean()),
        "num_images": len(pairs),
        "num_patches": len(cosines),
    }
    return write_results(
        out,
        values,
        script="evaluation.image_normalization",
        config=config,
        protocol="cosine of fc6 of one patch, normalised with its photograph and by itself",
        images=describe_images(manifest, "as given" if config.images else "held out by the run"),
    )


def _patches(
    manifest: Manifest, run: Run, config: Config
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives patches of one photograph, normalised with it and by themselves."""
    grids = dataclasses.replace(
        recipe_of(run).grids, images_per_batch=1, patches_per_batch=config.patches_per_image
    )
    normalize = ContrastNormalization(subtract_mean=True)
    num_images = min(config.num_images, len(grids.mark_too_small(manifest).usable()))
    batches = grid_batches(manifest, grids, seed=config.seed, num_steps=num_images)
    side = grids.patch_size
    for batch in batches.as_numpy_iterator():
        size = batch["sizes"][0]
        image = batch["canvases"][:, : size.prod()].reshape(1, *size, 3).astype("float32")
        whole = np.asarray(normalize(image))[0]
        cuts = [
            np.s_[row : row + side, column : column + side] for _, row, column in batch["corners"]
        ]
        alone = np.asarray(normalize(np.stack([image[0][cut] for cut in cuts])))
        yield np.stack([whole[cut] for cut in cuts]), alone


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def report(config: Config) -> None:
    """Compares, and prints one table."""
    results = main(config)
    rows = {name: results[name] for name in results if name.startswith("cosine")}
    print_table(f"normalisation by image and by patch -> {config.out}", rows)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
