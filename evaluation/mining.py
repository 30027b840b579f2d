"""What photographs show again and again, by several features (Doersch et al. 2015, section 4.5).

    python -m evaluation.mining --images PHOTOS --module MODULE --out results/mining
    python -m evaluation.mining --images FOLDERS --module MODULE --labels folders \
        --set-size 5 --num-sets 1000 --out results/purity

Rows are the modules, each beside its network untrained, and histograms of oriented gradients (HOG);
those of one stride look for the same constellations. Figures: how many of the photographs that
match best have the layout of the constellation, beside patches drawn anywhere in the same
photographs; how many objects that makes; and with labels, which no set is chosen by, purity and
coverage of sets of photographs, beside k-means on HOG, visual words and sets drawn at random.
Writes results.json, a page of objects for each module (index.html in a folder of its name) and
purity_coverage.png. Features are kept in the folder, and the same command again takes them. 600
photographs: some five minutes a row on two cores.
"""

import dataclasses
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_counts, check_seed
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    write_results,
)
from keras_ctxattr.cli.app import show_steps
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.pictures import line_plot, write_png
from keras_ctxattr.tasks.mining import (
    DenseDescriber,
    Mined,
    MiningSettings,
    describe_by_gradients,
    describe_by_module,
    mine_photographs,
    write_atlas,
)
from keras_ctxattr.tasks.mining.baselines import centre_sets, describe_keypoints, random_sets
from keras_ctxattr.tasks.mining.metrics import purity_coverage, select_sets
from keras_ctxattr.tasks.mining.objects import (
    Constellations,
    drop_duplicates,
    verified_by_chance,
)
from training.flags import parse_flags, run_script

HOG, HOG_KMEANS, WORDS, RANDOM = "HOG", "k-means on HOG", "visual words", "random"
_MIN_VERIFIED = 3  # of an object
_MAX_LINES = 6  # in a plot


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to mine, and by which features.

    Attributes:
        images: folder, archive, TFRecord file or tfds:NAME; may be repeated.
        module: folder of a module, or of ctxattr learn; may be repeated.
        out: folder of results.json, pages, the plot and the features.
        labels: folders (an image's folder is its class), or a CSV file with the columns
            image,label: scores sets of images.
        untrained: networks with fresh weights beside each module.
        constellations: constellations that are drawn.
        depth: photographs of each that are verified.
        num_pixels: area that photographs are scaled to at the finest scale.
        num_dims: principal directions that features are projected to.
        whitening: power of their variances that they are divided by, 0 to .5.
        search: exact, quantised, or auto by the amount of work.
        set_size: photographs of a set, for --labels.
        num_sets: sets that are chosen, for --labels.
        seed: seed of all draws.
    """

    images: list[str]
    module: list[Path]
    out: Path
    labels: str | None = None
    untrained: int = 1
    constellations: int = 2048
    depth: int = 100
    num_pixels: int = 300_000
    num_dims: int = 256
    whitening: float = 0.25
    search: str = "auto"
    set_size: int = 10
    num_sets: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "constellations", "set_size", "num_sets")
        check_counts(self, "untrained", at_least=0)
        check_seed(self)
        _ = self.settings
        if self.labels is not None and self.set_size > self.depth:
            raise ValueError(
                "`--set-size` must be at most `--depth`: sets are of verified photographs. "
                f"Received: {self.set_size} and {self.depth}"
            )

    @property
    def settings(self) -> MiningSettings:
        """What the library takes."""
        return MiningSettings(
            num_constellations=self.constellations,
            depth=self.depth,
            num_pixels=self.num_pixels,
            num_dims=self.num_dims,
            whitening=self.whitening,
            search=self.search,
            seed=self.seed,
        )


def main(config: Config) -> dict[str, Any]:
    """Mines with each kind of features, writes everything, and gives the results."""
    out = check_folder(config.out)
    describers, pages = _open_describers(config)
    manifest = collect(config.images)
    truth = _read_truth(config, manifest)
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, Constellations] = {}
    curves: dict[str, dict[str, Any]] = {}
    for name, describer in describers.items():
        start = time.monotonic()
        features = out / "features" / _file_name(name)
        with show_steps(name) as report:
            mined = mine_photographs(manifest, describer, features, config.settings, report=report)
        rows[name] = _summarize(mined, time.monotonic() - start, config.seed)
        found[name] = mined.found
        if name in pages:
            write_atlas(mined, out / _file_name(name), f"Objects by {name}")
        if truth is not None:
            curves[name] = _score_mined(mined, truth, config)
            if name == HOG:
                curves[HOG_KMEANS] = _score_centres(mined, truth, config)
    if truth is not None:
        curves |= _score_others(manifest, truth, config)
        write_png(out / "purity_coverage.png", _draw(curves))
    return write_results(
        out,
        {
            "rows": rows,
            "gains": _compare(found),
            "purity_coverage": {name: _listed(curve) for name, curve in curves.items()},
        },
        script="evaluation.mining",
        config=config,
        protocol=(
            f"{config.constellations} constellations of 2x2 touching patches at several scales; "
            f"the {config.depth} other photographs with the highest sum of cosines; verified: "
            "least-squares square with a side of 2/3 to 4/3 of the patches', squared error below "
            "its side squared; chance: patches drawn anywhere in the same photographs"
            + (
                f"; purity and coverage of {config.num_sets} sets of {config.set_size}"
                if truth is not None
                else ""
            )
        ),
        images=describe_images(manifest, "as given"),
    )


def _open_describers(config: Config) -> tuple[dict[str, DenseDescriber], list[str]]:
    """Gives what describes patches by the names of rows, and the names of the modules' own."""
    shorts = [module.name for module in config.module]
    names = [
        short if short not in ("", HOG) and shorts.count(short) == 1 else str(module)
        for short, module in zip(shorts, config.module, strict=True)
    ]
    found: dict[str, DenseDescriber] = {}
    for name, module in zip(names, config.module, strict=True):
        found[name] = describe_by_module(module)
        for number in range(config.untrained):
            seed = config.seed + number
            fresh = f"{name}, untrained" + (f" {seed}" if config.untrained > 1 else "")
            found[fresh] = describe_by_module(module, untrained_seed=seed)
    first = found[names[0]]
    if any(describer.patch_size != first.patch_size for describer in found.values()):
        sizes = sorted({describer.patch_size for describer in found.values()})
        raise ValueError(f"All modules must take patches of one size. Received: {sizes} pixels")
    gradients = describe_by_gradients(first.patch_size, first.stride)
    return {**found, HOG: gradients}, names


def _read_truth(config: Config, manifest: Manifest) -> np.ndarray | None:
    """Gives which classes each image shows, bool `[images, classes]`; None without labels."""
    if config.labels is None:
        return None
    if config.set_size > len(manifest):
        raise ValueError(
            f"`--set-size` must be at most the number of images, {len(manifest)}. "
            f"Received: {config.set_size}"
        )
    classes, names = read_labels(config.labels, list(manifest.keys))
    return classes[:, None] == np.arange(len(names))


# --- Verified matches ---


def _summarize(mined: Mined, seconds: float, seed: int) -> dict[str, Any]:
    found = mined.found
    chance = verified_by_chance(mined.features, found.matches, seed).sum(axis=1)
    best = np.sort(found.counts)[::-1][: max(1, len(found.counts) // 20)]
    num_images = len(mined.features.manifest)
    return {
        "verified": float(found.counts.mean()),
        "verified_standard_error": float(found.counts.std() / np.sqrt(len(found.counts))),
        "verified_best_twentieth": float(best.mean()),
        "verified_by_chance": float(chance.mean()),
        "objects": len(drop_duplicates(mined.features, found, min_verified=_MIN_VERIFIED)),
        "search": mined.search,
        "variance_kept": mined.features.kept,
        "patches_per_image": len(mined.features.vectors) / num_images,
        "bytes_per_image": mined.features.vectors.nbytes / num_images,
        "seconds": seconds,
    }


def _compare(found: dict[str, Constellations]) -> dict[str, dict[str, float]]:
    """Gives by how many verified matches the first row is above each other, by constellation.

    Rows that looked for other constellations, as those of another stride do, are left out.
    """
    (name, first), *others = found.items()
    return {
        f"{name} - {another}": _paired(first.counts, other.counts)
        for another, other in others
        if np.array_equal(first.images, other.images)
        and np.array_equal(first.patches, other.patches)
    }


def _paired(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    gains = one - other
    return {
        "mean": float(gains.mean()),
        "standard_error": float(gains.std() / np.sqrt(len(gains))),
    }


# --- Purity and coverage ---


def _score_mined(mined: Mined, truth: np.ndarray, config: Config) -> dict[str, Any]:
    found = mined.found
    full = [number for number in found.ranked() if found.counts[number] >= config.set_size]
    return _score([found.verified_images(int(n), config.set_size) for n in full], truth, config)


def _score_centres(mined: Mined, truth: np.ndarray, config: Config) -> dict[str, Any]:
    sets = centre_sets(
        mined.features.vectors_of, len(truth), config.num_sets, config.set_size, config.seed
    )
    return _score(sets, truth, config)


def _score_others(
    manifest: Manifest, truth: np.ndarray, config: Config
) -> dict[str, dict[str, Any]]:
    with show_steps(WORDS) as report:
        vectors = describe_keypoints(manifest, report("images described"))
    size = len(truth), config.num_sets, config.set_size, config.seed
    return {
        WORDS: _score(centre_sets(vectors.__getitem__, *size), truth, config),
        RANDOM: _score(random_sets(*size), truth, config),
    }


def _score(sets: Sequence[np.ndarray], truth: np.ndarray, config: Config) -> dict[str, Any]:
    """Gives the curve of the sets that the paper's selection takes, the highest-ranked first."""
    if not sets:
        return {"purity": np.zeros(0), "coverage": np.zeros(0), "area": 0.0, "area_to_half": 0.0}
    chosen = select_sets(sets, len(truth), config.num_sets)
    return purity_coverage([sets[number] for number in chosen], truth)


def _listed(curve: dict[str, Any]) -> dict[str, Any]:
    """Gives a curve as JSON types, with how many sets it has and how pure they are."""
    purity, coverage = curve["purity"], curve["coverage"]
    return {
        "area": curve["area"],
        "area_to_half": curve["area_to_half"],
        "num_sets": len(purity),
        "mean_purity": float(purity[-1]) if len(purity) else 0.0,
        "covered": float(coverage[-1]) if len(coverage) else 0.0,
        "purity": purity.tolist(),
        "coverage": coverage.tolist(),
    }


def _draw(curves: dict[str, dict[str, Any]]) -> np.ndarray:
    lines = {
        f"{name} {curve['area']:.2f} ({curve['area_to_half']:.2f})": (
            curve["coverage"].tolist(),
            curve["purity"].tolist(),
        )
        for name, curve in list(curves.items())[:_MAX_LINES]
        if len(curve["purity"])
    }
    return line_plot(
        lines, title="sets of images", x_label="coverage", y_label="purity of the sets up to there"
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "module"


def report(config: Config) -> None:
    """Mines, and prints the tables."""
    results = main(config)
    rows = {
        name: [
            f"{row['verified']:.2f} +- {row['verified_standard_error']:.2f}",
            f"{row['verified_best_twentieth']:.1f}",
            f"{row['verified_by_chance']:.2f}",
            row["objects"],
            f"{row['seconds'] / 60:.1f}",
        ]
        for name, row in results["rows"].items()
    }
    columns = ("", "verified", "best twentieth", "chance", "objects", "minutes")
    print_table(f"verified of {config.depth}", rows, columns)
    for name, gain in results["gains"].items():
        print(f"{name}: {gain['mean']:.2f} +- {gain['standard_error']:.2f}")
    if config.labels is not None:
        curves = {
            name: [
                f"{one['area']:.3f}",
                f"{one['area_to_half']:.3f}",
                one["num_sets"],
                f"{one['mean_purity']:.3f}",
                f"{one['covered']:.1%}",
            ]
            for name, one in results["purity_coverage"].items()
        }
        columns = ("", "area", "to coverage .5", "sets", "mean purity", "covered")
        print_table("purity and coverage", curves, columns)


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
