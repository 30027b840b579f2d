"""The command `ctxattr`: what a user can do with photographs without writing a script.

Every command is a short function that calls the library. TensorFlow and the library are imported
inside the commands, so that `ctxattr --help` answers at once.
"""

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from keras_ctxattr.cli import (  # noqa: F401 - each adds its commands to `app`
    check,
    compare,
    curate,
    encode,
    index,
    learn,
    mine,
    search,
    serve,
)
from keras_ctxattr.cli.app import app, print_warnings_in_a_line

ERROR_CODE = 2
INTERRUPTED_CODE = 130


def main() -> None:
    """Runs `ctxattr`; what a user can mend ends in one line on stderr and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is first imported
    print_warnings_in_a_line()
    try:
        sys.exit(app(standalone_mode=False))
    except typer.Abort:
        print("ctxattr: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_CODE)
    except Exception as error:
        if os.environ.get("CTXATTR_DEBUG") == "1" or not _is_expected(error):
            raise
        print(f"ctxattr: {_to_line(error)}", file=sys.stderr)
        sys.exit(ERROR_CODE)


def _is_expected(error: Exception) -> bool:
    """Tells whether an error is about what came in (flags, files, values), not a fault of ours."""
    if isinstance(error, OSError | ValueError) or _is_usage(error):
        return True
    # By their names: their modules import TensorFlow.
    if type(error).__name__ in ("TrainingCollapsed", "MissingPackageError"):
        return True
    # TensorFlow's errors, without importing TensorFlow for them.
    return any(
        kind.__name__ == "OpError" and kind.__module__.startswith("tensorflow")
        for kind in type(error).__mro__
    )


def _is_usage(error: Exception) -> bool:
    """Tells whether an error is typer's word on the command line."""
    return isinstance(error, typer.BadParameter.__base__)  # type: ignore[arg-type]


def _to_line(error: Exception) -> str:
    if _is_usage(error):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "ctxattr"
        return f"{error.format_message()} See: {command} --help"  # type: ignore[attr-defined]
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _show_version(is_asked: bool) -> None:
    if is_asked:
        try:
            print(metadata.version("keras_ctxattr"))
        except metadata.PackageNotFoundError:
            print("unknown (not installed)")
        raise typer.Exit


@app.callback()
def _set_up(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Visual features and binary attributes from unlabelled photographs."""
