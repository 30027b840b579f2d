"""The module of whatever a command made: a run's features, or a module that is there already."""

from collections.abc import Callable
from functools import partial as with_arguments
from pathlib import Path

from keras_ctxattr.attributes.learning.training import KIND as ATTRIBUTES_KIND
from keras_ctxattr.clustering.alternation.reading import KIND as CLUSTERS_KIND
from keras_ctxattr.context.trained import KIND as CONTEXT_KIND
from keras_ctxattr.context.trained import export_run
from keras_ctxattr.export import (
    check_onnx_packages,
    check_target,
    copy_module,
    export_onnx,
    is_module,
    version_folder,
)
from keras_ctxattr.pipeline.learn import KIND as LEARN_KIND
from keras_ctxattr.pipeline.photographs import KIND as PHOTOGRAPHS_KIND
from keras_ctxattr.runs import Run, RunError, write_atomically

# Where runs of each kind keep their module.
_PLACES = {
    ATTRIBUTES_KIND: "module",
    PHOTOGRAPHS_KIND: "module",
    LEARN_KIND: "attributes/module",
}


def export_learnt(
    source: str | Path,
    directory: str | Path,
    *,
    colour: str = "none",
    license: str | None = None,
    overwrite: bool = False,
    serving: bool = False,
    onnx: bool = False,
) -> Path:
    """Writes the module of a run, or a copy of a module, with all that is asked for or not at all.

    Args:
        source: run folder of context prediction, clusters, attributes or `learn`; or a module.
        directory: folder to write; with `serving` that of the model's versions.
        colour: `"none"` or `"project"`, see `export_module`; only for context prediction.
        license: under which licence others may use it; None keeps a module's own.
        overwrite: whether a module that is there already may be replaced.
        serving: whether to write the next version `directory/N`, for TensorFlow Serving.
        onnx: whether to write `model.onnx` into it.

    Returns:
        The folder of the module.

    Raises:
        ValueError: if `source` has no module, or an argument is impossible.
        MissingPackageError: if a package that `onnx` needs is missing.
    """
    if serving and overwrite:
        raise ValueError(
            "Versions for a server are never overwritten; leave out `--overwrite` or `--serving`. "
            "Received: both"
        )
    write = _writer(Path(source), colour, license)
    if onnx:
        check_onnx_packages()
    target = version_folder(directory) if serving else Path(directory)
    check_target(target.resolve(), overwrite)
    with write_atomically(target, replace=overwrite) as partial:
        write(partial)
        if onnx:
            export_onnx(partial)
    return target


def _writer(source: Path, colour: str, license: str | None) -> Callable[[Path], object]:
    """Gives the function that writes the module to a folder."""
    run = None if is_module(source) else _read_run(source)
    if run is not None and run.kind == CONTEXT_KIND:
        return with_arguments(export_run, source, colour=colour, license=license)
    if colour != "none":
        raise ValueError(
            "`colour` is chosen where a run of context prediction becomes a module; leave it out. "
            f"Received: colour={colour!r} for {source}"
        )
    module = source if run is None else _module_of(run)
    return with_arguments(copy_module, module, license=license)


def _read_run(source: Path) -> Run:
    try:
        return Run.read(source)
    except RunError as error:
        if not is_module(source / "module"):
            raise
        raise RunError(
            f"{source} is no run folder; give the module in it: {source / 'module'}"
        ) from error


def _module_of(run: Run) -> Path:
    """Gives the module that a run wrote."""
    if run.kind == CLUSTERS_KIND:
        place = run.path / "rounds" / str(run.summary.get("kept", 0)) / "module"
    elif run.kind in _PLACES:
        place = run.path / _PLACES[run.kind]
    else:
        kinds = ", ".join(sorted([CONTEXT_KIND, CLUSTERS_KIND, *_PLACES]))
        raise RunError(
            f"The run must be of a kind that has a module ({kinds}). Received: {run.kind!r} in "
            f"{run.path}"
        )
    if is_module(place):
        return place
    if run.finished:
        raise RunError(f"{run.path} has no module: it learnt without a network of its own.")
    raise RunError(f"{run.path} has no module yet: give the training command again, which goes on.")
