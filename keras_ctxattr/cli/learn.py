"""`ctxattr quickstart` and `ctxattr export`: from photographs to a module, from a run to one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from keras_ctxattr.cli.app import app, load_tensorflow, printable, scan_progress

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
    """Learn features in about six minutes, look at them, and write them as a module."""
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
    print(f"Load      tf.saved_model.load({str(result.module)!r})(images)   # RGB in [0, 1]")
    print(f"Go on     {_next_command(photos)}")


def _name_some(names: Sequence[str]) -> str:
    named = printable(", ".join(names[:MAX_NAMED]))
    return f"{named} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else named


def _next_command(photos: Sequence[str] | None) -> str:
    if not photos:
        return "ctxattr quickstart YOUR_PHOTOS --out mine"
    images = " ".join(f"--images {shlex.quote(source)}" for source in photos)
    run = "--run runs/photos --minutes 60"
    return f"python -m training.pretrain_context {images} {run}   # in a clone of the repository"


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a training.")],
    out: OutFolder,
    colour: Annotated[
        str, typer.Option(help="none, or project: remove green against magenta.")
    ] = "none",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a module.")] = False,
) -> None:
    """Write the features that a run learnt as a reusable SavedModel."""
    load_tensorflow()
    from keras_ctxattr.context.training import export_run

    folder = export_run(run, out, colour=colour, overwrite=overwrite)
    print(f"{folder}: tf.saved_model.load({str(folder)!r})(images)   # RGB in [0, 1]")
