"""`ctxattr mine`: what photographs show again and again."""

import time
from pathlib import Path
from typing import Annotated

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, scan_progress, show_steps

FEATURES = "features"
"""Folder of the patches' features below `--out`, kept for the next call."""


@app.command()
def mine(
    photos: Photos,
    module: Annotated[
        Path, typer.Option("--module", help="A module, or the folder of `ctxattr learn`.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the page and of features.")
    ],
    constellations: Annotated[
        int, typer.Option(min=1, help="Constellations of patches that are drawn.")
    ] = 2048,
    depth: Annotated[
        int, typer.Option(min=1, help="Photographs that are verified for each.")
    ] = 100,
    objects: Annotated[int, typer.Option(min=1, help="Objects on the page.")] = 100,
    search: Annotated[
        str, typer.Option(help="exact, quantised (faster in large ones), or auto by the work.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all draws.")] = 0,
) -> None:
    """Find what photographs show again and again: a page of objects.

    The same command again goes on where it stopped.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder. Received: {out}")
    settings_of = {"num_constellations": constellations, "depth": depth, "search": search}
    load_tensorflow()
    from keras_ctxattr.data.manifest import scan_images
    from keras_ctxattr.tasks.mining import (
        MiningSettings,
        describe_by_module,
        mine_photographs,
        write_atlas,
    )

    start = time.monotonic()
    settings = MiningSettings(seed=seed, **settings_of)  # type: ignore[arg-type]
    describer = describe_by_module(module)
    with scan_progress() as progress:
        scanned = scan_images(photos, progress=progress)
    manifest = scanned.usable()
    with show_steps() as report:
        mined = mine_photographs(
            manifest,
            describer,
            out / FEATURES,
            settings,
            report=report,
        )
    found = write_atlas(mined, out, f"Objects in {', '.join(photos)}", num_objects=objects)
    num_images = len(mined.features.manifest)
    num_skipped = len(scanned) - len(manifest)
    if num_skipped:
        print(f"{num_skipped:,} files skipped: ctxattr check says why")
    if mined.num_thin:
        print(f"{mined.num_thin:,} photographs left out: their sides differ more than 10 times")
    print(
        f"{out / 'index.html'}: {len(found):,} objects from {num_images:,} photographs; "
        f"{mined.found.counts.mean():.1f} of {mined.found.verified.shape[1]} matches verified on "
        f"average, {mined.found.counts.max():,} at most; {time.monotonic() - start:.0f} s"
    )
