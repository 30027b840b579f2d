"""What a contour network sees: its maps beside the photographs, and what padding would change.

    python -m evaluation.contour_maps --run runs/contours --gt BSDS500 --split val --out maps

Takes a run of `training.learn_contours`. Writes `contours.png` (photograph, edges, the map put
together from patches, and what people drew; Huang, Loy, Tang 2016, figure 8), `attributes.png` (a
photograph with the map of each attribute, blue where it is not and red where it is, as strong as
the contour) and results.json: how far the chance of a contour is from that of a 45 x 45 patch with
zeros around, which the papers train on, where the network sees the photograph. Three seconds a
photograph on two cores.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from evaluation.checks import check_counts, check_positive, check_seed
from evaluation.report import check_folder, print_table, track, write_results
from keras_ctxattr.pictures import contact_sheet, write_png
from keras_ctxattr.runs import Run
from keras_ctxattr.tasks.contours.crops import PATCH
from keras_ctxattr.tasks.contours.labels import ContourImages, read_contour_images
from keras_ctxattr.tasks.contours.learning import load_code_book, load_contour_network
from keras_ctxattr.tasks.contours.module import ContourModule, mirror_edges
from keras_ctxattr.tasks.contours.network import contour_network
from keras_ctxattr.tasks.contours.patches import MIDDLE
from keras_ctxattr.tasks.contours.recipe import ContourRecipe
from keras_ctxattr.tasks.contours.suppression import suppress_non_maxima
from keras_ctxattr.tasks.contours.tasks import by_number
from training.flags import parse_flags, run_script

_TILE = 300
_MAX_ATTRIBUTES = 16  # whose maps are shown
_COLUMNS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which network, on which photographs.

    Attributes:
        run: run folder of training.learn_contours.
        gt: BSDS500, as a folder or archive.
        out: folder of results.json and pictures.
        images: photographs, named as their ground truth; those in --gt if not given.
        split: train, val or test; all of --gt if not given.
        first: number of the first photograph, counted from 0 by name.
        count: number of photographs.
        num_pixels: pixels of all photographs that are looked at as padded patches.
        seed: of the choice of pixels.
    """

    run: Path
    gt: Path
    out: Path
    images: Path | None = None
    split: str | None = None
    first: int = 0
    count: int = 5
    num_pixels: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(self, "first", at_least=0)
        check_positive(self, "count", "num_pixels")
        check_seed(self)


def main(config: Config) -> dict[str, Any]:
    """Detects contours, writes pictures and figures, and gives the figures."""
    out = check_folder(config.out)
    network, book = load_contour_network(config.run), load_code_book(config.run)
    images = read_contour_images(config.gt, config.split, config.images)
    rows = sorted(range(len(images)), key=lambda row: by_number(images.names[row]))
    rows = rows[config.first : config.first + config.count]
    if not rows:
        raise ValueError(f"`--first` must be under the number of images. Received: {config.first}")
    module = ContourModule(network, book)
    maps = []
    for row in track(rows, len(rows), "detecting contours"):
        pixels = tf.cast(images.pixels[row][None], tf.float32) / 255
        maps.append({name: one[0].numpy() for name, one in module(pixels).items()})
    figures = _compare_padding(network, images, rows, maps, config)
    out.mkdir(parents=True, exist_ok=True)
    write_png(out / "contours.png", _draw_contours(images, rows, maps))
    if book is not None:
        write_png(out / "attributes.png", _draw_attributes(images.pixels[rows[0]], maps[0]))
    return write_results(
        out,
        figures,
        script="evaluation.contour_maps",
        config=config,
        protocol=(
            "chance of a contour of the whole photograph, less that of 45 x 45 pixels with zeros "
            "around them, by the same weights"
        ),
        images={"images": config.split or "all of --gt", "num_images": len(rows)},
    )


def _compare_padding(
    network: keras.Model,
    images: ContourImages,
    rows: list[int],
    maps: list[dict[str, np.ndarray]],
    config: Config,
) -> dict[str, Any]:
    recipe = ContourRecipe(**Run.read(config.run).config["recipe"])
    padded = contour_network(network.output_shape[-1] - 1, recipe, padded=True)
    padded.set_weights(network.get_weights())
    generator = np.random.default_rng(config.seed)
    shares = np.bincount(generator.integers(0, len(rows), config.num_pixels), minlength=len(rows))
    seen, whole = [], []
    for row, found, share in zip(rows, maps, shares.tolist(), strict=True):
        photograph = images.pixels[row]
        places = generator.integers(0, photograph.shape[:2], (share, 2))
        around = mirror_edges(tf.constant(photograph[None]), MIDDLE)[0].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(around, (PATCH, PATCH), axis=(0, 1))
        seen.append(np.moveaxis(windows[places[:, 0], places[:, 1]], 1, -1))
        whole.append(found["edges"][places[:, 0], places[:, 1]])
    logits = padded.predict(np.concatenate(seen), verbose=0)[:, 0, 0, 0]
    alone, together = 1 / (1 + np.exp(-logits.astype(np.float64))), np.concatenate(whole)
    differences = alone - together
    return {
        "num_pixels": len(differences),
        "mean_chance": float(together.mean()),
        "mean_chance_padded": float(alone.mean()),
        "mean_difference": float(np.abs(differences).mean()),
        "max_difference": float(np.abs(differences).max()),
        "correlation": float(np.corrcoef(alone, together)[0, 1]) if alone.std() > 0 else 0.0,
    }


def _draw_contours(
    images: ContourImages, rows: list[int], maps: list[dict[str, np.ndarray]]
) -> np.ndarray:
    drawn = []
    for row, found in zip(rows, maps, strict=True):
        names = [name for name in ("edges", "patches") if name in found]
        shown = [_ink(suppress_non_maxima(found[name])) for name in names]
        truth = images.boundaries[row].mean(axis=0)
        drawn.append([images.pixels[row], *shown, _ink(truth / max(truth.max(), 1e-9))])
    titles = ["photograph", "edges", "from patches", "people"]
    if len(drawn[0]) == 3:
        titles.remove("from patches")
    return contact_sheet(drawn, tile_size=_TILE, header=[(title, 1) for title in titles])


def _ink(strength: np.ndarray) -> np.ndarray:
    """Gives dark lines on white; the root shows what is faint."""
    grey = np.rint(255 * (1 - np.sqrt(np.clip(strength, 0, 1)))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _draw_attributes(photograph: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    edges = np.sqrt(found["edges"])[..., None]
    tiles = [photograph, _ink(found["edges"])]
    for number in range(min(found["attributes"].shape[-1], _MAX_ATTRIBUTES)):
        chance = found["attributes"][..., number, None]
        colour = chance * np.array([200, 30, 30]) + (1 - chance) * np.array([30, 60, 200])
        tiles.append(np.rint(255 + edges * (colour - 255)).astype(np.uint8))
    grid = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
    title = "Photograph, edges, and attributes from the first on: red where set, blue where not"
    return contact_sheet(grid, tile_size=_TILE, title=title)


def _report(config: Config) -> None:
    results = main(config)
    names = ("num_pixels", "mean_chance", "mean_difference", "max_difference", "correlation")
    print_table(f"contour maps -> {config.out}", {name: results[name] for name in names})


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
