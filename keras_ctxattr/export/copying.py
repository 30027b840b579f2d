"""Copies of a module: with another licence, or as a numbered version for a model server."""

import shutil
from pathlib import Path

from keras_ctxattr.export.writing import check_license, check_target, is_module, read_module
from keras_ctxattr.runs import write_atomically, write_json


def copy_module(
    module: str | Path,
    directory: str | Path,
    *,
    license: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a copy of a module, whole or not at all.

    Args:
        module: folder that `export_module` wrote.
        directory: folder to write.
        license: for the copy's `module.json`; None keeps the module's.
        overwrite: whether a module that is there already may be replaced.

    Returns:
        The folder of the copy.

    Raises:
        ValueError: if `module` is none, or `directory` is the module's own or holds something else.
    """
    source, target = Path(module), Path(directory)
    described = read_module(source)
    check_license(license)
    if target.resolve() == source.resolve():
        raise ValueError(
            f"`directory` must be another folder than the module's own. Received: {target}"
        )
    check_target(target, overwrite)
    num_bytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    with write_atomically(target, num_bytes=num_bytes, replace=overwrite) as partial:
        shutil.copytree(source, partial)
        if license is not None:
            write_json(partial / "module.json", {**described, "license": license})
    return target


def export_version(
    module: str | Path,
    models: str | Path,
    *,
    version: int | None = None,
    license: str | None = None,
) -> Path:
    """Copies a module to where TensorFlow Serving looks for the versions of a model.

    The server, given `--model_name=photos --model_base_path=.../models/photos`, loads the highest
    number that it finds, and goes over to a new one while it runs. Versions are never overwritten.

    Args:
        module: folder that `export_module` wrote.
        models: folder of the model's versions, such as "models/photos".
        version: number of the version, 1 to 2**63 - 1; None takes the next one.
        license: for the copy's `module.json`; None keeps the module's.

    Returns:
        The folder of the version, such as "models/photos/1".

    Raises:
        ValueError: if `module` is none, or the version cannot be written.

    Example:
        >>> import tempfile
        >>> from keras_ctxattr.backbones import compact
        >>> from keras_ctxattr.export import export_module
        >>> folder = Path(tempfile.mkdtemp())
        >>> module = export_module(compact(width=8, num_features=16), folder / "module")
        >>> versions = [export_version(module, folder / "photos") for _ in range(2)]
        >>> [version.name for version in versions]
        ['1', '2']
    """
    return copy_module(module, version_folder(models, version), license=license)


def version_folder(models: str | Path, version: int | None = None) -> Path:
    """Gives the folder of a model's next version, or of the one that is asked for.

    Args:
        models: folder of the model's versions; it need not exist.
        version: number of the version; None takes the one after the highest that is there.

    Raises:
        ValueError: if the version is there, or `models` is no folder of versions.
    """
    folder = Path(models)
    if is_module(folder) or (folder.exists() and not folder.is_dir()):
        raise ValueError(
            "A model's versions need a folder of their own, such as models/photos for "
            f"models/photos/1. Received: {folder}, which is a "
            f"{'module' if folder.is_dir() else 'file'}"
        )
    entries = folder.iterdir() if folder.is_dir() else ()
    numbers = {int(entry.name) for entry in entries if entry.name.isdecimal()}
    if version is None:
        version = max(numbers, default=0) + 1
    if isinstance(version, bool) or not (isinstance(version, int) and 1 <= version < 2**63):
        raise ValueError(f"`version` must be a whole number from 1 on. Received: {version!r}")
    if version in numbers:
        raise ValueError(
            "A version is never overwritten; take another number, or none for the next one. "
            f"Received: version={version}, which is in {folder}"
        )
    return folder / str(version)
