"""`ctxattr quickstart`, `learn` and `export`: from photographs to a module, from a run to one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from keras_ctxattr.cli.app import Photos, app, load_tensorflow, printable, scan_progress

MAX_NAMED = 3  # held-out photographs named on the screen

OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")]


@app.command()
def quickstart(
    photos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PHOTOS...]", help="Photographs; the bundled scenes if none."),
    ] = None,
    out: OutFolder = Path("quickstart"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time in minutes.")] = 3.5,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all draws.")] = 0,
) -> None:
    """Learn features and attributes in about six minutes, look at them, write a module."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print("Starting TensorFlow ...")
    load_tensorflow()
    from keras_ctxattr.quickstart import HELD_OUT_SCENES, TRAINING_SCENES, run_quickstart

    if photos:
        console.print(f"Learning from {', '.join(photos)} for {minutes:g} minutes.")
    else:
        console.print(
            f"Learning for {minutes:g} minutes from {len(TRAINING_SCENES)} pictures that ship "
            "inside scikit-image and scikit-learn."
        )
    with scan_progress() as progress:
        result = run_quickstart(photos or (), out, minutes=minutes, seed=seed, progress=progress)
    if photos:
        print(f"Held out, never learnt from: {_name_some(result.held_out)}.")
    else:
        names = ", ".join(name for _, name in HELD_OUT_SCENES)
        print(
            f"Demonstration on {result.num_training + result.num_held_out} bundled scenes, not "
            f"evidence. Held out: {names}."
        )
    print(
        f"Held-out accuracy {result.accuracy:.1%} on {result.num_held_out} photographs; guessing "
        f"gives 12.5%. Trained on {result.num_training} for {result.seconds / 60:.1f} minutes."
    )
    print(f"Look at   {result.picture}   (query | neighbours learnt | neighbours untrained)")
    print(f"Look at   {result.search}   (query | patches with the nearest codes)")
    print(f"Load      module = tf.saved_model.load({str(result.module)!r})")
    print("          module(images), module.codes(images)   # RGB in [0, 1]")
    print(f"Go on     {_next_command(photos)}")


def _name_some(names: Sequence[str]) -> str:
    named = printable(", ".join(names[:MAX_NAMED]))
    return f"{named} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else named


def _next_command(photos: Sequence[str] | None) -> str:
    named = " ".join(shlex.quote(source) for source in photos or ["YOUR_PHOTOS"])
    return f"ctxattr learn {named} --out learnt   # every stage, an hour or more"


@app.command()
def learn(
    photos: Photos,
    out: OutFolder,
    hours: Annotated[
        float | None,
        typer.Option(
            help="Time for all stages; an hour for training, and what describing takes, if none."
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of a code, a multiple of 8.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all draws.")] = 0,
) -> None:
    """Learn features and attributes of your photographs, and write them as a module.

    Every stage's time is estimated first. The same command again goes on where it stopped.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print("Starting TensorFlow ...")
    load_tensorflow()
    from keras_ctxattr.pipeline import learn_from_photographs

    with scan_progress() as progress:
        result = learn_from_photographs(
            photos,
            out,
            hours=hours,
            num_attributes=bits,
            seed=seed,
            progress=progress,
            report=lambda line: console.print(line, markup=False, soft_wrap=True),
        )
    total = sum(result.seconds.values()) / 60
    print(f"{result.num_photographs:,} photographs have codes of {bits} bits; {total:.0f} minutes.")
    print(f"Look at   {result.neighbours}   (photograph | those with the nearest codes)")
    print(f"          {result.attributes}   (photographs on both sides of an attribute)")
    print(f"Codes     {result.codes}   (names in keys.txt beside it)")
    print(f"Load      module = tf.saved_model.load({str(result.module)!r})")
    print("          module.encode_bytes(files)   # the codes of image files")
    named = " ".join(shlex.quote(source) for source in photos)
    print(f"Search    ctxattr index {named} --module {shlex.quote(str(out))} --out my.index")
    print("          ctxattr serve my.index       # in the browser")


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_MODULE", help="Folder of a run or of `learn`, or a module."),
    ],
    out: OutFolder,
    colour: Annotated[
        str, typer.Option(help="none, or project: remove green against magenta.")
    ] = "none",
    license: Annotated[
        str | None, typer.Option(help="SPDX identifier, such as CC-BY-4.0, for module.json.")
    ] = None,
    serving: Annotated[
        bool, typer.Option("--serving", help="Write the next version, DIR/N, for a model server.")
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx into it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a module.")] = False,
) -> None:
    """Write what a run learnt as a reusable SavedModel, for a server, as ONNX."""
    load_tensorflow()
    from keras_ctxattr.pipeline import export_learnt

    folder = export_learnt(
        source,
        out,
        colour=colour,
        license=license,
        overwrite=overwrite,
        serving=serving,
        onnx=onnx,
    )
    print(f"{folder}: tf.saved_model.load({str(folder)!r})(images)   # RGB in [0, 1]")
    if serving:
        name, base = out.resolve().name, shlex.quote(str(out.resolve()))
        print(f"Serve     tensorflow_model_server --model_name={name} --model_base_path={base}")
    if onnx:
        print(f"ONNX      {folder / 'model.onnx'}   # images -> features")
