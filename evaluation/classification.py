r"""What frozen networks know of classes: linear classifiers of every layer's pooled map.

    python -m evaluation.classification --images caltech101.tar --protocol caltech101-mini \
        --module MODULE --features hog --out results/classification

Each photograph goes through a network once; the map of every layer is max-pooled, in quadrants
(STL-10) or a spatial pyramid (Caltech-101), and classified by linear SVMs, with the papers' C = 0.1
and with one that the training part chooses, by a linear probe and by nearest neighbours; then by
SVMs that learn from 1, 2, 4 and more examples of a class. Beside the same network with fresh
weights, drawn anew for each draw of photographs, and histograms of oriented gradients.

Writes results.json and low_shot.png. Two cores take some ten minutes for a network of six layers on
808 photographs of 101 classes, most of it to choose C.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.checks import check_positive, check_seed
from evaluation.report import (
    check_folder,
    collect,
    describe_images,
    print_table,
    write_results,
)
from keras_ctxattr.cli.app import show_progress
from keras_ctxattr.data.stl10 import SIDE, read_stl10
from keras_ctxattr.pictures import line_plot, write_png
from keras_ctxattr.tasks.classification.classifiers import (
    NUM_FOLDS,
    NUM_NEIGHBOURS,
    PENALTY,
    PROBE_PENALTY,
    SCALINGS,
)
from keras_ctxattr.tasks.classification.comparing import ALL, Comparison, compare_layers
from keras_ctxattr.tasks.classification.networks import (
    LayeredNetwork,
    describe_by_hog,
    describe_pixels,
    open_layers,
)
from keras_ctxattr.tasks.classification.photographs import (
    LabelledPhotographs,
    describe_draws,
    of_stl10,
    read_photographs,
)
from keras_ctxattr.tasks.classification.pooling import POOLINGS
from keras_ctxattr.tasks.classification.protocol import PROTOCOLS, Protocol
from keras_ctxattr.tasks.classification.scoring import CLASSIFIERS, possible_shots
from training.flags import parse_flags, run_script

FEATURES = ("hog",)
_MAX_LINES = 5  # layers in a plot; the sixth line is that of hand-made features
_TITLES = {"svm": f"SVM, C = {PENALTY:g}", "svm_cv": "SVM, C chosen", "probe": "probe"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which photographs are classified, by which features.

    Attributes:
        images: folder or archive with a folder of photographs for each class; the folder of the
            binaries for --protocol stl10.
        out: folder of results.json and low_shot.png.
        module: network as training.finetune_detection takes it (a module, a run, a .keras file, a
            SavedModel, untrained:BACKBONE); may be repeated.
        features: hand-made features to compare with: hog.
        protocol: stl10, caltech101, caltech101-mini or folders.
        layer: name of a layer to classify by, or "all layers", side by side; may be repeated; every
            one of them if not given.
        labels: folders (a photograph's folder is its class), or a CSV file with the columns
            image,label.
        pool: whole, quadrants or pyramid; the protocol's if not given.
        side: pixels of the square that photographs are scaled to; the protocol's if not given.
        train_per_class: photographs of a class that teach, for --protocol folders.
        test_per_class: photographs of a class that test, or as many as are left, for --protocol
            folders.
        draws: how often photographs are drawn, or how many of the folds are taken; the protocol's
            number if not given.
        classifiers: some of svm, svm_cv, probe and knn, with commas.
        scaling: length or standard: how features are brought to a common scale.
        untrained: whether to compare with fresh weights.
        seed: of the draws of photographs and of fresh weights.
    """

    images: str
    out: Path
    module: list[str] = dataclasses.field(default_factory=list)
    features: list[str] = dataclasses.field(default_factory=list)
    protocol: str = "folders"
    layer: list[str] = dataclasses.field(default_factory=list)
    labels: str = "folders"
    pool: str | None = None
    side: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    draws: int | None = None
    classifiers: str = ",".join(CLASSIFIERS)
    scaling: str = SCALINGS[0]
    untrained: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks names and numbers."""
        check_positive(self, "side", "train_per_class", "test_per_class", "draws")
        check_seed(self)
        if not self.module and not self.features:
            raise ValueError("Give `--module` or `--features`. Received: none of them")
        _check_names("--protocol", [self.protocol], PROTOCOLS)
        _check_names("--features", self.features, FEATURES)
        _check_names("--classifiers", self.classifier_names, CLASSIFIERS)
        _check_names("--scaling", [self.scaling], SCALINGS)
        if self.pool is not None:
            _check_names("--pool", [self.pool], POOLINGS)
        if len(set(self.module)) < len(self.module):
            raise ValueError(f"Each `--module` must be another. Received: {self.module}")
        if self.protocol != "folders" and (self.train_per_class or self.test_per_class):
            raise ValueError(
                "`--train-per-class` and `--test-per-class` belong to `--protocol folders`. "
                f"Received: --protocol {self.protocol}"
            )
        if self.protocol == "stl10" and (self.labels != "folders" or self.side not in (None, SIDE)):
            raise ValueError(
                f"`--protocol stl10` has labels and {SIDE} pixels a side of its own: leave "
                "`--labels` and `--side` out. Received: one of them"
            )

    @property
    def classifier_names(self) -> list[str]:
        """The names of the classifiers."""
        return [name.strip() for name in self.classifiers.split(",")]

    def division(self) -> Protocol:
        """Gives the protocol with what the flags change of it."""
        given: dict[str, Any] = {
            "pooling": self.pool,
            "side": self.side,
            "num_draws": self.draws,
            "train_per_class": self.train_per_class,
            "test_per_class": self.test_per_class,
        }
        known = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(PROTOCOLS[self.protocol], **known)

    def comparison(self, protocol: Protocol, shots: list[int]) -> Comparison:
        """Gives what is compared, and how."""
        return Comparison(
            grids=POOLINGS[protocol.pooling],
            classifiers=self.classifier_names,
            shots=shots,
            scaling=self.scaling,
            layers=self.layer,
            untrained=self.untrained,
            hand_made=bool(self.features),
            seed=self.seed,
        )


def _check_names(flag: str, given: list[str], known: Any) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"`{flag}` must be of {', '.join(known)}. Received: {', '.join(unknown)}")


def main(config: Config) -> dict[str, Any]:
    """Describes, classifies, writes everything, and gives the results."""
    out = check_folder(config.out)
    networks = [open_layers(source, seed=config.seed) for source in config.module]
    protocol = config.division()
    _check_before(config, networks, protocol)
    photographs, about = _read(config, protocol)
    shots = possible_shots(photographs.labels, photographs.draws)
    with show_progress("classifying") as progress:
        comparison = config.comparison(protocol, shots)
        rows = compare_layers(networks, photographs, comparison, progress=progress)
    values = {
        "protocol_name": protocol.name,
        "chance": 1 / len(photographs.names),
        "classifiers": config.classifier_names,
        **describe_draws(photographs),
        "rows": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    if shots:
        write_png(out / "low_shot.png", draw_low_shot(rows))
    return write_results(
        out,
        values,
        script="evaluation.classification",
        config=config,
        protocol=_describe(config, protocol, photographs),
        images=about,
    )


def _check_before(config: Config, networks: list[LayeredNetwork], protocol: Protocol) -> None:
    """Checks names of layers, and that one image goes through everything, before the work."""
    known = {name for network in networks for name in [*network.layers, ALL]}
    unknown = [name for name in config.layer if name not in known]
    if unknown:
        raise ValueError(
            f"`--layer` must be of {', '.join(sorted(known)) or 'a module'}. "
            f"Received: {', '.join(unknown)}"
        )
    comparison = config.comparison(protocol, [])
    pixels = np.zeros([1, protocol.side, protocol.side, 3], np.uint8)
    for network in networks:
        comparison.chosen(network)
        describe_pixels(network, pixels, comparison.grids)
    if comparison.hand_made:
        try:
            describe_by_hog(pixels, comparison.grids)
        except ValueError as error:
            raise ValueError(
                "`--side` must hold two cells of HOG a side; scale images up. "
                f"Received: {protocol.side} pixels"
            ) from error


def _read(config: Config, protocol: Protocol) -> tuple[LabelledPhotographs, dict[str, Any]]:
    if protocol.name == "stl10":
        photographs = of_stl10(read_stl10(config.images), protocol.num_draws)
        about = {"images": "STL-10", "num_images": len(photographs.labels)}
        return photographs, {**about, "sources": [config.images]}
    manifest = collect([config.images])
    with show_progress("reading photographs") as progress:
        photographs = read_photographs(
            manifest, protocol, labels=config.labels, seed=config.seed, progress=progress
        )
    about = describe_images(manifest, "photographs of all classes")
    return photographs, {**about, "num_images": len(photographs.labels)}


def _describe(config: Config, protocol: Protocol, photographs: LabelledPhotographs) -> str:
    """Says in words what was measured."""
    if protocol.train_per_class is None:
        division = f"{len(photographs.draws)} predefined folds, all test images"
    else:
        limit = protocol.test_per_class
        division = (
            f"{len(photographs.draws)} draws of {protocol.train_per_class} photographs of a class "
            f"to teach and {'all others' if limit is None else f'up to {limit}'} to test, seeds "
            f"({config.seed}, 0) to ({config.seed}, {len(photographs.draws) - 1})"
        )
    return (
        f"{protocol.name}: {division}; {protocol.side} x {protocol.side} pixels; maps max-pooled "
        f"({protocol.pooling}); features scaled by {config.scaling}; one-vs-all linear SVM with C "
        f"= {PENALTY:g}, or C by cross-validation, up to {NUM_FOLDS}-fold, on the training part; "
        f"multinomial logistic regression with C = {PROBE_PENALTY:g}; {NUM_NEIGHBOURS} nearest "
        "neighbours by cosine; accuracy, each class weighing the same; mean and standard deviation "
        f"(n - 1) over draws; fresh weights from seeds {config.seed} on, one a draw"
    )


def draw_low_shot(rows: list[dict[str, Any]]) -> np.ndarray:
    """Draws accuracy by examples of a class: a plot for each network, its best layers in it."""
    fixed = {row["network"]: _line(row) for row in rows if not row["layer"]}
    best = dict(sorted(fixed.items(), key=lambda one: -one[1][1][-1])[:1])
    plots = []
    for network in dict.fromkeys(row["network"] for row in rows if row["layer"]):
        own = {row["layer"]: _line(row) for row in rows if row["network"] == network}
        kept = sorted(own, key=lambda name: -own[name][1][-1])[:_MAX_LINES]
        lines = {name: line for name, line in own.items() if name in kept}
        plots.append(_plot({**lines, **best}, short_names([network])[network]))
    return np.concatenate(plots or [_plot(fixed, "hand-made features")])


def _line(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    low_shot = row["learnt"]["low_shot"]
    return [math.log2(int(count)) for count in low_shot], [one["mean"] for one in low_shot.values()]


def _plot(lines: dict[str, Any], title: str) -> np.ndarray:
    return line_plot(
        lines,
        title=f"{title}: linear SVM, C = {PENALTY:g}",
        x_label="log2 of the examples of a class",
        y_label="accuracy",
    )


def short_names(paths: list[str]) -> dict[str, str]:
    """Gives the shortest ends of paths that tell them apart, longer than "module"."""
    for length in (1, 2, 3):
        ends = {path: "/".join(Path(path).parts[-length:]) for path in paths}
        if len(set(ends.values())) == len(paths) and "module" not in ends.values():
            return ends
    return {path: path for path in paths}


def report(results: dict[str, Any]) -> None:
    """Prints a table a network."""
    names = results["classifiers"]
    columns = ("accuracy, %", *(_TITLES.get(name, "k-NN") for name in names))
    tables: dict[str, dict[str, list[str]]] = {}
    for row in results["rows"]:
        table = tables.setdefault(row["network"] if row["layer"] else "hand-made features", {})
        layer = row["layer"] or row["network"]
        for kind in ("learnt", "untrained", "gain"):
            if kind in row:
                figures = row[kind] if kind == "gain" else row[kind]["accuracy"]
                name = layer if kind == "learnt" else f"{layer}, {kind}"
                table[name] = [_cell(figures[classifier]) for classifier in names]
    for network, table in tables.items():
        print_table(f"{results['protocol_name']}: {network}", table, columns)
    print(f"{results['num_classes']} classes, by chance: {100 * results['chance']:.1f}")


def _cell(figure: dict[str, Any]) -> str:
    spread = "" if figure["std"] is None else f" ± {100 * figure['std']:.1f}"
    return f"{100 * figure['mean']:.1f}{spread}"


if __name__ == "__main__":
    run_script(lambda config: report(main(config)), parse_flags(Config, sys.argv[1:]))
