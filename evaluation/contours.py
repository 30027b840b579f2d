"""The boundary benchmark of BSDS500, without MATLAB: contour maps against what people drew.

    python -m evaluation.contours --pred MAPS --gt BSDS500 --split test --out results
    python -m evaluation.contours --run runs/contours --gt BSDS500 --split val --out results

The second detects contours first, by a network of training.learn_contours, suppresses what is no
crest, and leaves the maps in `maps`; `--canny` does it by Canny's detector. Maps of `--pred` must
have had non-maximum suppression: `--suppress` does it.

Writes results.json (`ods` and `ois`, each with f, precision, recall and threshold; `ap`; the curve;
every image's best), the benchmark's own eval_bdry.txt, eval_bdry_img.txt and eval_bdry_thr.txt, and
curve.png, precision by recall over lines of equal F. Two cores match 14 images a minute at 99
thresholds, fewer where maps are dense.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.checks import check_counts, check_positive, check_seed
from evaluation.report import check_folder, print_table, write_results
from keras_ctxattr.cli.app import show_progress
from keras_ctxattr.data.bsds import BsdsImage
from keras_ctxattr.pictures import precision_recall_plot, write_png
from keras_ctxattr.tasks.contours.benchmark import score_contours
from keras_ctxattr.tasks.contours.canny import RATIO, SIGMA, canny_map
from keras_ctxattr.tasks.contours.formats import write_contour_map, write_official_results
from keras_ctxattr.tasks.contours.labels import read_contour_images
from keras_ctxattr.tasks.contours.learning import load_code_book, load_contour_network
from keras_ctxattr.tasks.contours.matching import BENCHMARK_SEED, MATCHINGS, MAX_DISTANCE
from keras_ctxattr.tasks.contours.module import ContourModule, read_description
from keras_ctxattr.tasks.contours.suppression import suppress_non_maxima
from keras_ctxattr.tasks.contours.tasks import by_number, match_maps
from keras_ctxattr.tasks.contours.transfer import DECODINGS, REACH, SHARPNESS, SPREAD
from training.flags import parse_flags, run_script

MAPS = ("edges", "patches")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which maps, on which ground truth.

    Attributes:
        gt: BSDS500, as a folder or archive, or a folder of NAME.mat files.
        out: folder of results.json, eval_bdry*.txt, curve.png and, but for --pred, maps.
        pred: folder of contour maps, NAME.png of 8 or 16 bits, no less being surer.
        run: run folder of training.learn_contours.
        module: folder of a module that training.learn_contours exported.
        map: edges, each pixel by itself, or patches, put together from contour patches.
        stride: pixels between those that lay their patches, for --map patches of --run.
        reach: pixels from its middle to which a patch is used, up to 22.
        decoding: likelihood or hamming: how a pixel's attributes name a patch.
        sharpness: power of the chance of a contour by which patches weigh.
        spread: pixels at which what is laid falls to 0 beside it; 1 spreads nothing.
        unweighted: lays all patches with equal strength.
        canny: detects by Canny's detector, both thresholds swept.
        canny_sigma: of the Gaussian before, in pixels.
        canny_ratio: lower threshold over the higher one.
        images: photographs to detect contours in, named as their ground truth; those in --gt if not
            given.
        split: train, val or test; all of --gt if not given.
        first: number of the first image, counted from 0 by name.
        count: number of images; all from there on if not given.
        thresholds: number of thresholds, evenly between 0 and 1.
        suppress: suppresses what is no crest first; without it maps are taken as they are.
        matching: benchmark or optimal: with the random part of the benchmark's own, or without.
        max_distance: between pixels that correspond, as a share of the diagonal.
        processes: as many as there are cores if not given.
        seed: of the benchmark's random part.
    """

    gt: Path
    out: Path
    pred: Path | None = None
    run: Path | None = None
    module: Path | None = None
    map: str = "edges"
    stride: int = 1
    reach: int = REACH
    decoding: str = DECODINGS[0]
    sharpness: float = SHARPNESS
    spread: int = SPREAD
    unweighted: bool = False
    canny: bool = False
    canny_sigma: float = SIGMA
    canny_ratio: float = RATIO
    images: Path | None = None
    split: str | None = None
    first: int = 0
    count: int | None = None
    thresholds: int = 99
    suppress: bool = False
    matching: str = "benchmark"
    max_distance: float = MAX_DISTANCE
    processes: int | None = None
    seed: int = BENCHMARK_SEED

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "thresholds")
        check_counts(self, "first", at_least=0)
        check_positive(self, "max_distance", "processes", "count", "canny_sigma")
        check_seed(self)
        given = [name for name in ("pred", "run", "module", "canny") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "Give one of `--pred`, `--run`, `--module` and `--canny`. "
                f"Received: {', '.join(given) or 'none'}"
            )
        for name, modes in _BELONGS.items():
            if getattr(self, name) != _DEFAULTS[name] and given[0] not in modes:
                raise ValueError(
                    f"`--{name.replace('_', '-')}` belongs to "
                    f"{' and '.join(f'`--{mode}`' for mode in modes)}. Received: --{given[0]}"
                )
        laying = [name for name in _LAYING if getattr(self, name) != _DEFAULTS[name]]
        if laying and self.map == "edges":
            raise ValueError(
                f"`--{laying[0]}` belongs to `--map patches`. Received: --map {self.map}"
            )
        if self.map not in MAPS:
            raise ValueError(f"`--map` must be one of {', '.join(MAPS)}. Received: {self.map}")
        if self.matching not in MATCHINGS:
            raise ValueError(
                f"`--matching` must be one of {', '.join(MATCHINGS)}. Received: {self.matching}"
            )


_LAYING = ("stride", "reach", "decoding", "sharpness", "spread", "unweighted")
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
# Flag -> the ways to get maps that it changes; others refuse it.
_BELONGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LAYING, ("run",)),
    "map": ("run", "module"),
    "images": ("run", "module", "canny"),
    "suppress": ("pred",),
    "canny_sigma": ("canny",),
    "canny_ratio": ("canny",),
}


def main(config: Config) -> dict[str, Any]:
    """Scores, writes everything, and gives the results."""
    out = check_folder(config.out)
    matched = _detect(config, out) if config.pred is None else _read(config, config.pred)
    if not matched:
        raise ValueError(f"`--first` must be under the number of images. Received: {config.first}")
    suppressed = config.suppress or config.pred is None
    tasks = [(scores, image.boundaries) for image, scores in matched]
    with show_progress("matching contours") as progress:
        values = score_contours(
            tasks,
            num_processes=config.processes or os.cpu_count() or 1,
            progress=lambda done: progress(done, len(tasks)),
            thresholds=config.thresholds,
            matching=config.matching,
            max_distance=config.max_distance,
            seed=config.seed,
        )
    out.mkdir(parents=True, exist_ok=True)
    write_official_results(out, values)
    write_png(out / "curve.png", draw_curve({_name(config): values}))
    names = [image.name for image, _ in matched]
    named = [{"name": name, **one} for name, one in zip(names, values["images"], strict=True)]
    sizes = [np.prod(image.boundaries.shape[1:]) for image, _ in matched]
    return write_results(
        out,
        {**values, "images": named},
        script="evaluation.contours",
        config=config,
        protocol=(
            f"BSDS500's boundary benchmark, {config.thresholds} thresholds, pixels matched within "
            f"{config.max_distance} of the diagonal, {config.matching} matching, non-maximum "
            f"suppression {'here' if suppressed else 'left to who made the maps'}"
        ),
        images={
            "images": config.split or "all of --gt",
            "num_images": len(matched),
            "num_pixels": int(sum(sizes)),
            "sources": [
                str(source)
                for source in (config.gt, config.images, config.pred, config.run, config.module)
                if source is not None
            ],
        },
    )


Matched = list[tuple[BsdsImage, np.ndarray]]
"""Ground truths and contour maps."""


def _read(config: Config, folder: Path) -> Matched:
    matched = list(match_maps(folder, config.gt, config.split, rows=_rows(config)))
    if not config.suppress:
        return matched
    return [(image, suppress_non_maxima(scores)) for image, scores in matched]


def _detect(config: Config, out: Path) -> Matched:
    """Detects contours in the photographs of the ground truth, and writes the maps."""
    detect = _detector(config)
    images = read_contour_images(config.gt, config.split, config.images)
    (out / "maps").mkdir(parents=True, exist_ok=True)
    matched = []
    rows = sorted(range(len(images)), key=lambda row: by_number(images.names[row]))[_rows(config)]
    with show_progress("detecting contours") as progress:
        for done, row in enumerate(rows, start=1):
            scores = detect(images.pixels[row])
            write_contour_map(out / "maps" / f"{images.names[row]}.png", scores)
            image = BsdsImage(
                name=images.names[row], split="", key="", boundaries=images.boundaries[row]
            )
            matched.append((image, scores))
            progress(done, len(rows))
    return matched


def _detector(config: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Gives the function from a photograph to its suppressed map."""
    if config.canny:
        sigma, ratio = config.canny_sigma, config.canny_ratio
        return lambda photograph: canny_map(photograph, sigma=sigma, ratio=ratio)
    whole = _load_module(config)
    return lambda photograph: suppress_non_maxima(
        whole(tf.cast(photograph[None], tf.float32) / 255)[config.map][0].numpy()
    )


def _load_module(config: Config) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    if config.run is None:
        described = read_description(config.module or "")
        loaded, has_patches = tf.saved_model.load(str(config.module)), described["codes"] > 0
    else:
        book = load_code_book(config.run)
        has_patches = book is not None
        settings = {name: getattr(config, name) for name in _LAYING if name != "unweighted"}
        loaded = ContourModule(
            load_contour_network(config.run),
            book if config.map == "patches" else None,
            **settings,
            weighted=not config.unweighted,
        )
    if config.map == "patches" and not has_patches:
        raise ValueError(
            "`--map patches` needs a network that has learnt attributes (`--attributes`). "
            f"Received: {config.run or config.module}"
        )
    return loaded


def _rows(config: Config) -> slice:
    return slice(config.first, None if config.count is None else config.first + config.count)


def _name(config: Config) -> str:
    if config.canny:
        return "Canny"
    return (config.pred or config.run or config.module or config.out).name


def draw_curve(results: dict[str, dict[str, Any]]) -> np.ndarray:
    """Draws precision by recall of up to six results, the best F of each marked."""
    series, best = {}, {}
    for name, one in results.items():
        label = f"{name}: F {one['ods']['f']:.3f}"
        series[label] = (one["curve"]["recall"], one["curve"]["precision"])
        best[label] = (one["ods"]["recall"], one["ods"]["precision"])
    return precision_recall_plot(series, best=best, title="precision by recall, lines of equal F")


def report(results: dict[str, Any]) -> None:
    """Prints the table."""
    rows = {
        name: [f"{results[name][key]:.3f}" for key in ("f", "precision", "recall", "threshold")]
        for name in ("ods", "ois")
    }
    print_table("contours", rows, ("", "F", "precision", "recall", "threshold"))
    print(f"ap: {results['ap']:.3f}")


if __name__ == "__main__":
    run_script(lambda config: report(main(config)), parse_flags(Config, sys.argv[1:]))
