"""Retrieval by binary codes: learnt attributes beside hashing of fixed features, in one table.

    python -m evaluation.retrieval --gallery cifar10_train.tar.gz --labels folders \
        --module runs/attributes/module --method itq,lsh --features hog --out results/retrieval

Protocol `cifar10-p1`: queries of every class are drawn ten times, from `--queries`, whose other
images join the gallery, or without it from the gallery. Everything else is ranked by Hamming
distance; figures are expectations over a random order of equal distances, means and standard
deviations over the draws. Labels are used for these figures alone. Writes results.json, codes.npy
and keys.txt (of the first row of the table), `precision_recall.png` and `neighbours.png`.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.checks import check_counts, check_seed
from evaluation.report import check_folder, collect, print_table, track, write_results
from keras_ctxattr.attributes import hamming
from keras_ctxattr.attributes.baselines import BASELINES
from keras_ctxattr.clustering import open_images, open_round
from keras_ctxattr.data.images import encoded_reader
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.patches import PatchTable, cut_patches
from keras_ctxattr.export import read_module
from keras_ctxattr.features import extract_features, make_descriptor
from keras_ctxattr.pictures import line_plot, neighbours_sheet, write_png
from keras_ctxattr.runs import Run, write_atomically
from keras_ctxattr.tasks.retrieval.protocol import DEPTH, Retrieval, draw_queries, score_codes
from training.flags import parse_flags, run_script

_FIT_ROWS = 20_000  # patches from which first features learn what they have to learn
_MAX_LINES = 6  # in a plot
_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which images are searched, and by which codes.

    Attributes:
        gallery: folder, archive, TFRecord file or tfds:NAME of the images that are searched.
        out: folder of results.json, codes.npy, keys.txt and pictures.
        labels: folders (an image's folder is its class), or a CSV file with the columns
            image,label.
        queries: images from which queries are drawn; the gallery's if not given.
        module: folder of a module with attributes; may be repeated.
        run: run folder of training.learn_attributes that learnt from all of these images, each as
            one patch, where there is no module (attributes of hand-made features); not with
            --queries; may be repeated.
        method: hashing methods on fixed features, with commas: lsh, pcah, sh, itq, dh.
        features: what they hash: hog, daisy, fisher, colour, or the folder of a module.
        bits: bits of their codes; may be repeated.
        size: side in pixels of the patches that features describe.
        protocol: name of the protocol, for results.json; it says more where queries are taken from
            the gallery (-train49k) or copies of CIFAR-10 are compressed (-jpeg).
        per_class: queries of a class.
        num_draws: how often queries are drawn.
        seed: seed of the draws and of the methods.
    """

    gallery: str
    out: Path
    labels: str = "folders"
    queries: str | None = None
    module: list[Path] = dataclasses.field(default_factory=list)
    run: list[Path] = dataclasses.field(default_factory=list)
    method: str | None = None
    features: str = "hog"
    bits: list[int] = dataclasses.field(default_factory=list)
    size: int = 32
    protocol: str = "cifar10-p1"
    per_class: int = 100
    num_draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks names and numbers."""
        check_counts(self, "per_class", "num_draws", "size")
        check_seed(self)
        if not self.module and not self.run and not self.method:
            raise ValueError("Give `--module`, `--run` or `--method`. Received: none of them")
        if any(bits < 8 or bits % 8 for bits in self.bits):
            raise ValueError(
                "`--bits` must be multiples of 8, so that codes are whole bytes. Received: "
                f"{', '.join(map(str, self.bits))}"
            )
        if self.run and self.queries:
            raise ValueError(
                "`--run` knows the codes of its own images: leave `--queries` out. Received: "
                f"--queries {self.queries}"
            )
        unknown = sorted(set(self.methods) - set(BASELINES))
        if unknown:
            raise ValueError(
                f"`--method` must be some of {', '.join(BASELINES)}. Received: {', '.join(unknown)}"
            )

    @property
    def methods(self) -> list[str]:
        """The names of the methods."""
        return [name.strip() for name in (self.method or "").split(",") if name.strip()]


@dataclasses.dataclass(frozen=True)
class _Images:
    """All images, and which of them may be queries."""

    manifest: Manifest
    labels: np.ndarray
    names: list[str]
    is_candidate: np.ndarray

    def full_protocol(self, config: Config) -> str:
        """Gives the protocol's name with what differs: queries of the gallery, files of JPEG."""
        name = config.protocol
        if not config.queries:
            count = len(self.labels) - config.per_class * len(self.names)
            name += f"-train{count}" if count < 1000 else f"-train{count / 1000:.3g}k"
        # The data set itself is lossless: codes of compressed copies find less.
        is_jpeg = all(key.lower().endswith((".jpg", ".jpeg")) for key in self.manifest.keys)
        return f"{name}-jpeg" if is_jpeg and name.startswith("cifar10") else name


def main(config: Config) -> dict[str, Any]:
    """Encodes, ranks, writes it all, and gives the results."""
    out = check_folder(config.out)
    images = _read_images(config)
    protocol = images.full_protocol(config)
    draws = [
        draw_queries(images.labels, config.per_class, config.seed + number, images.is_candidate)
        for number in range(config.num_draws)
    ]
    codes: dict[str, np.ndarray] = {}
    rows: dict[str, Retrieval] = {}
    with tempfile.TemporaryDirectory() as folder:
        cutter = _Cutter(images.manifest, Path(folder))
        num_rows = (
            len(config.module) + len(config.run) + len(config.methods) * len(config.bits or [64])
        )
        for name, found in track(_encode_all(config, cutter), num_rows, "kinds of codes"):
            codes[name] = found
            rows[name] = score_codes(found, images.labels, draws)
        pixels = _pixels_of_neighbours(cutter.cut(config.size), draws[0], codes, images)
    first = next(iter(rows))
    with write_atomically(out / "codes.npy") as partial, partial.open("wb") as file:
        np.save(file, codes[first])
    with write_atomically(out / "keys.txt") as partial:
        partial.write_text("\n".join(images.manifest.keys.tolist()) + "\n", encoding="utf-8")
    write_png(out / "neighbours.png", _draw_neighbours(pixels))
    write_png(out / "precision_recall.png", _draw_curves(rows))
    return write_results(
        out,
        {
            **rows[first].figures,
            "codes": first,
            "rows": {name: _row(row) for name, row in rows.items()},
            "protocol_name": protocol,
        },
        script="evaluation.retrieval",
        config=config,
        protocol=(
            f"{protocol}: {config.num_draws} draws of {config.per_class} queries of "
            "each class; all other images ranked by Hamming distance, expectation over the order "
            f"of ties; mAP over the whole ranking and over the first {DEPTH}; methods are fitted "
            "once, to all images"
        ),
        images={
            "images": "gallery" + (" and queries" if config.queries else ""),
            "num_images": len(images.labels),
            "sources": [source for source in (config.queries, config.gallery) if source],
        },
    )


# --- Images ---


def _read_images(config: Config) -> _Images:
    """Gives the images of both sources; a class is the same in both by its name."""
    sources = [source for source in (config.queries, config.gallery) if source]
    manifest = collect(sources)
    owners = np.full(len(manifest), -1)
    names = np.full(len(manifest), "", object)
    # The manifest of both is in the order of its keys: images are known by where they lie.
    rows = {place: row for row, place in enumerate(_places(manifest))}
    for number, source in enumerate(sources):
        own = collect([source])
        found, classes = read_labels(config.labels, list(own.keys))
        there = np.array([rows[place] for place in _places(own)])
        if (owners[there] >= 0).any():
            raise ValueError(
                "`--queries` and `--gallery` must not share an image. Received: "
                f"{int((owners[there] >= 0).sum())} images in both"
            )
        owners[there] = number
        names[there] = np.array([*classes, ""], object)[found]  # -1 takes the last
    known = sorted(set(names) - {""})
    numbers = {name: number for number, name in enumerate(known)} | {"": -1}
    labels = np.array([numbers[name] for name in names], np.int64)
    return _Images(manifest, labels, known, owners == 0)


def _places(manifest: Manifest) -> list[tuple[str, int]]:
    return list(zip(manifest.paths.tolist(), manifest.offsets.tolist(), strict=True))


class _Cutter:
    """Gives all images as patches of a size, cut once for each."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest = manifest
        self.folder = folder
        self._tables: dict[int, PatchTable] = {}

    def cut(self, size: int) -> PatchTable:
        """Gives the middle of every image, scaled to a size."""
        if size not in self._tables:
            self._tables[size] = cut_patches(self.manifest, self.folder / str(size), size=size)
        return self._tables[size]


# --- Codes ---


def _encode_all(config: Config, cutter: _Cutter) -> Iterator[tuple[str, np.ndarray]]:
    """Gives (name of the row, codes) of every module, then of every method."""
    for folder in config.module:
        yield str(folder), _encode_by_module(folder, cutter)
    for folder in config.run:
        yield str(folder), _read_codes(folder, cutter.manifest)
    if not config.methods:
        return
    vectors = _describe(config, cutter)
    for bits in config.bits or [64]:
        for name in config.methods:
            hashing = BASELINES[name](bits, random_state=config.seed).fit(vectors)
            yield f"{Path(config.features).name} + {name}, {bits} bits", hashing.encode(vectors)


def _encode_by_module(folder: Path, cutter: _Cutter) -> np.ndarray:
    described = read_module(folder).get("attributes")
    if described is None:
        raise ValueError(
            "`--module` must have attributes, as `training.learn_attributes` writes it; a module "
            f"of features can be given as --features. Received: {folder}"
        )
    module = tf.saved_model.load(str(folder))
    if described["unit"] == "patch":
        pixels = cutter.cut(read_module(folder)["patch_size"]).pixels
        count, encode = len(pixels), _by_patches(module, pixels)
    else:
        read, rows = encoded_reader(cutter.manifest), tf.range(len(cutter.manifest))
        count, encode = len(cutter.manifest), lambda row: module.encode_bytes(read(rows[row])[None])
    starts = range(0, count, _BATCH if described["unit"] == "patch" else 1)
    return np.concatenate([np.asarray(encode(start)) for start in starts])


def _read_codes(folder: Path, manifest: Manifest) -> np.ndarray:
    """Gives the codes that a run kept of its images, in the order of these."""
    run = Run.read(folder, kind="attributes")
    source = run.config["source"]
    if not run.finished or "clusters" not in source:
        raise ValueError(
            "`--run` must be a finished run of `training.learn_attributes`. Received: "
            + str(folder)
        )
    patches = open_round(source["clusters"], source["round"]).patches
    learnt = open_images(source["clusters"])
    contents = dict(zip(learnt.image_ids.tolist(), learnt.digests, strict=True))
    rows = {
        (patches.keys[image], contents[image]): row
        for row, image in enumerate(patches.image_ids.tolist())
    }
    names = list(zip(manifest.keys, manifest.digests, strict=True))
    if len(rows) != len(patches) or not set(names) <= rows.keys():
        raise ValueError(
            "`--run` must have learnt from all images, each as one patch. Received: "
            f"{folder} with {len(patches)} patches of {len(rows)} images, for {len(names)}"
        )
    return np.load(folder / "codes.npy")[[rows[name] for name in names]]


def _by_patches(module: Any, pixels: Any) -> Callable[[int], Any]:
    def encode(start: int) -> Any:
        chunk = np.asarray(pixels[start : start + _BATCH])
        return module.codes(tf.cast(chunk, tf.float32) / 255.0)

    return encode


def _describe(config: Config, cutter: _Cutter) -> np.ndarray:
    """Gives the fixed features of all images, float32 `[n, num_features]`."""
    descriptor = make_descriptor(config.features, config.size)
    patches = cutter.cut(config.size)
    generator = np.random.default_rng(config.seed)
    rows = np.sort(generator.permutation(len(patches))[:_FIT_ROWS])
    descriptor = descriptor.fit(np.asarray(patches.pixels[rows]), seed=config.seed)
    table = extract_features(patches, descriptor, cutter.folder / "features")
    return np.array(table.vectors[:], np.float32)


# --- Pictures ---


def _pixels_of_neighbours(
    patches: PatchTable, queries: np.ndarray, codes: dict[str, np.ndarray], images: _Images
) -> tuple[list[np.ndarray], dict[str, list[list[np.ndarray]]]]:
    """Gives a query of each class, and the images that each kind of codes finds first."""
    per_class = len(queries) // len(images.names)
    shown = queries[::per_class][:10]
    gallery = np.setdiff1d(np.arange(len(images.labels)), queries)
    found = {}
    for name, packed in list(codes.items())[:4]:
        order = np.argsort(hamming(packed[shown], packed[gallery]), axis=1, kind="stable")
        nearest = gallery[order[:, :6]]
        found[name] = [[np.asarray(patches.pixels[int(i)]) for i in row] for row in nearest]
    return [np.asarray(patches.pixels[int(row)]) for row in shown], found


def _draw_neighbours(
    shown: tuple[list[np.ndarray], dict[str, list[list[np.ndarray]]]],
) -> np.ndarray:
    return neighbours_sheet(*shown, tile_size=64, title="Nearest by Hamming distance")


def _draw_curves(rows: dict[str, Retrieval]) -> np.ndarray:
    lines = {
        name: (row.recall.tolist(), row.precision.tolist())
        for name, row in list(rows.items())[:_MAX_LINES]
    }
    return line_plot(
        lines, title="Precision and recall by Hamming radius", x_label="recall", y_label="precision"
    )


def _row(row: Retrieval) -> dict[str, Any]:
    precision = [None if np.isnan(value) else float(value) for value in row.precision]
    return {**row.figures, "curve": {"precision": precision, "recall": row.recall.tolist()}}


def _report(config: Config) -> None:
    results = main(config)
    names = ("map_at_all", f"map_at_{DEPTH}", f"precision_at_{DEPTH}", "precision_within_2")
    rows = {
        name: [f"{100 * row[one]['mean']:.2f} ± {100 * row[one]['std']:.2f}" for one in names]
        for name, row in results["rows"].items()
    }
    columns = ("", "mAP, %", f"mAP@{DEPTH}", f"P@{DEPTH}", "P, radius 2")
    print_table(f"{results['protocol_name']} -> {config.out}", rows, columns)


if __name__ == "__main__":
    run_script(_report, parse_flags(Config, sys.argv[1:]))
