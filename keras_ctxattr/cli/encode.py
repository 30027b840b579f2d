"""`ctxattr encode`: codes and features of a whole collection, as shards that many workers write."""

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ctxattr.cli.app import app, load_tensorflow, printable, show_progress
from keras_ctxattr.cli.engines import Address, Engine, NumWorkers

if TYPE_CHECKING:
    from keras_ctxattr.search.encoding import Encoded


@app.command()
def encode(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTOS...",
            help="Folders, .tar, .tar.gz or TFRecord files, images, tfds:NAME[:SPLIT], URLs.",
        ),
    ],
    module: Annotated[
        Path,
        typer.Option("--module", help="Module with attributes, or the folder of `ctxattr learn`."),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="TABLE", help="Folder or URL to write to, or go on in.")
    ],
    engine: Engine = "local",
    num_workers: NumWorkers = 1,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep each worker to cores of its own.")
    ] = False,
    address: Address = None,
    shard_images: Annotated[
        int, typer.Option("--shard-images", min=1, help="Files of a shard.")
    ] = 1024,
    no_vectors: Annotated[bool, typer.Option("--no-vectors", help="Keep codes only.")] = False,
    share: Annotated[
        str,
        typer.Option("--share", metavar="I/N", help="Of N machines that see TABLE, this is the I."),
    ] = "0/1",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a whole collection, each file exactly once, shard by shard.

    The same command again goes on with the shards that are missing; at the end all are checked.
    """
    load_tensorflow()
    from keras_ctxattr.export import locate_module
    from keras_ctxattr.jobs import Workers
    from keras_ctxattr.search.encoding import encode_photographs

    start = time.monotonic()
    workers = Workers(engine=engine, num_workers=num_workers, pin=pin, address=address)
    # Ray prints what became of an actor on stdout, which is for the result.
    with show_progress("describing images") as progress, contextlib.redirect_stdout(sys.stderr):
        encoded = encode_photographs(
            photos,
            out,
            locate_module(module),
            workers=workers,
            keep_vectors=not no_vectors,
            shard_images=shard_images,
            share=_parse_share(share),
            progress=progress,
        )
    _tell(out, encoded, time.monotonic() - start, as_json)


def _parse_share(text: str) -> tuple[int, int]:
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal()):
        raise ValueError(f"`--share` must be I/N, such as 0/2 and 1/2. Received: {text}")
    return int(part), int(whole)


def _tell(out: str, encoded: "Encoded", seconds: float, as_json: bool) -> None:
    """Names the first files that were skipped, and says in one line what there is."""
    skipped = [(printable(key), printable(reason)) for key, reason in encoded.first_skipped]
    if as_json:
        report = {"table": out, **dataclasses.asdict(encoded), "seconds": round(seconds, 2)}
        report["first_skipped"] = [{"key": key, "reason": reason} for key, reason in skipped]
        print(json.dumps(report, indent=2))
        return
    if encoded.lost:
        print(f"{encoded.lost:,} workers were lost and replaced")
    if encoded.missing:
        print(
            f"{out}: this share is done; {encoded.missing:,} of {encoded.shards:,} shards are left "
            f"to others; {seconds:.1f} s"
        )
        return
    for key, reason in skipped:
        print(f"skipped {key}: {reason}")
    if encoded.skipped > len(skipped):
        print(f"skipped {encoded.skipped - len(skipped):,} more: the shard.json of each shard")
    print(
        f"{out}: {encoded.images:,} images, {encoded.skipped:,} skipped, {encoded.others:,} other "
        f"files, in {encoded.shards:,} shards, {encoded.bytes / 2**20:.1f} MiB; {seconds:.1f} s"
    )
