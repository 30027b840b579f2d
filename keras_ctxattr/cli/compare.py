"""`ctxattr compare`: which network tells your photographs apart best."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, scan_progress, show_progress
from keras_ctxattr.cli.index import AsJson

if TYPE_CHECKING:
    import numpy as np

    from keras_ctxattr.data.manifest import Manifest

RESULTS, PICTURE = "results.json", "neighbours.png"


@app.command()
def compare(
    photos: Photos,
    modules: Annotated[
        list[str],
        typer.Option(
            "--module",
            metavar="NETWORK",
            help="Repeatable: a module or SavedModel, a .keras file, untrained[:BACKBONE], "
            "keras:NAME[:random].",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(metavar="folders|CSV", help="Classes: folders, or a table image,label."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of results and pictures.")
    ] = None,
    count: Annotated[int, typer.Option("-k", min=1, help="Neighbours that vote.")] = 10,
    shots: Annotated[
        list[int] | None,
        typer.Option("--shots", min=1, help="Labelled examples of a class; repeatable. [1, 5]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all draws.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare networks on your photographs: neighbours, k-NN and few-shot accuracy."""
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder. Received: {out}")
    load_tensorflow()
    from keras_ctxattr.data.labels import read_labels
    from keras_ctxattr.data.manifest import scan_images
    from keras_ctxattr.tasks.comparison import Protocol, compare_networks, open_networks
    from keras_ctxattr.tasks.comparison.protocol import choose_images

    protocol = Protocol(num_neighbours=count, shots=tuple(shots or (1, 5)), seed=seed)
    networks = open_networks(modules, seed=seed)
    with scan_progress() as progress:
        manifest = choose_images(scan_images(photos, progress=progress))
    classes = None if labels is None else read_labels(labels, list(manifest.keys))[0]
    with show_progress("describing images") as progress:
        results, neighbours = compare_networks(
            manifest, networks, classes, protocol, progress=progress
        )
    results |= {"sources": list(manifest.sources), "labels": labels}
    if out is not None:
        _write(out, results, manifest, neighbours)
    if as_json:
        print(json.dumps(results, indent=2))
        return
    _print_results(results)
    if out is not None:
        print(f"Look at   {out / PICTURE}   (photograph | nearest of each network)")
        print(f"Results   {out / RESULTS}")


def _write(
    out: Path, results: dict[str, Any], manifest: "Manifest", neighbours: "dict[str, np.ndarray]"
) -> None:
    from keras_ctxattr.pictures import write_png
    from keras_ctxattr.runs import write_json
    from keras_ctxattr.runs.identity import versions
    from keras_ctxattr.tasks.comparison.protocol import comparison_sheet

    write_png(out / PICTURE, comparison_sheet(manifest, neighbours, seed=results["seed"]))
    write_json(out / RESULTS, {**results, "versions": versions()})


def _print_results(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    figures = results["networks"]
    columns = [name for name in next(iter(figures.values())) if "accuracy" in name]
    table = Table(title=f"{results['num_images']:,} photographs", title_justify="left")
    table.add_column("network")
    for name in ["features", *(name.replace("_", " ") for name in columns)]:
        table.add_column(name, justify="right")
    for name, values in figures.items():
        cells = [_format(values[column]) for column in columns]
        table.add_row(escape(name), str(values["num_features"]), *cells)
    if "chance" in results:
        cells = [f"{results['chance']:.1%}"] * len(columns)
        table.add_row(f"chance, {results['num_classes']} classes", "", *cells)
    console = Console(highlight=False)
    console.print(table)
    for pair, share in results["shared_neighbours"].items():
        console.print(f"neighbours in common: {pair}: {share:.0%}", markup=False)


def _format(figure: dict[str, float]) -> str:
    spread = figure.get("std", figure.get("standard_error", 0.0))
    return f"{figure['mean']:.1%} ± {100 * spread:.1f}"
