"""Whole files or none: write beside the place, flush to the disk, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTIAL_MARK = ".partial-"
"""Part of the hidden name a file has while it is being written."""

_FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OCCUPIED_ERRORS = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


class DiskFullError(OSError):
    """The disk, the quota or the file size limit is reached. One line, with what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def write_atomically(
    path: str | Path, *, num_bytes: int = 0, reassurance: str = "", replace: bool = True
) -> Iterator[Path]:
    """Gives a hidden path beside `path` to write to; renames it to `path` if all went well.

    A reader, or a process killed at any moment, sees the old content or the new one, never a part
    of it. The path may be written as a file or as a folder; the missing folders above it are made.
    (A folder that is there already is moved aside first: killed in that instant, the old one
    remains under its hidden name.) On an error the partial is removed.

    Args:
        path: Where the result belongs. The partial keeps the suffix, since some writers look at it.
        num_bytes: How much will be written, if known: refused at once where the disk has less.
        reassurance: What is still fine if the disk is full, a clause for the message.
        replace: Whether what is at `path` is replaced. If not, a folder that another process has
            written there meanwhile stays, and this one is an error.

    Yields:
        The path to write to. It does not exist.

    Raises:
        DiskFullError: No space left: one line that says how much to free, and where.
        FileExistsError: There is something at `path`, which may not be replaced.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with write_atomically(folder / "notes.txt") as partial:
        ...     _ = partial.write_text("done")
        >>> [entry.name for entry in folder.iterdir()]
        ['notes.txt']
    """
    target = Path(path)
    with _explain_full_disk(target, num_bytes, reassurance):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.stem}{PARTIAL_MARK}{os.getpid()}{target.suffix}")
        remove(partial)
        try:
            if num_bytes > shutil.disk_usage(target.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            yield partial
            _flush_to_disk(partial)
            if replace:
                _rename_over(partial, target)
            else:
                _rename_to_new(partial, target)
        except BaseException:
            remove(partial)
            raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; paths become strings, NaN is refused.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot hold.
        TypeError: A value is of a type that JSON does not have.
        DiskFullError: No space left.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False, default=_as_json)
    with write_atomically(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def json_types(value: Any) -> Any:
    """`value` as it comes back from JSON: tuples as lists, paths as strings, numpy as numbers."""
    return json.loads(json.dumps(value, allow_nan=False, default=_as_json))


def remove(path: Path) -> None:
    """Removes a file, or a folder with all in it; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes what writers that were killed left in `folder`; nobody else may be writing there."""
    for partial in folder.glob(f".*{PARTIAL_MARK}*"):
        remove(partial)


def _as_json(value: Any) -> Any:
    """Paths as strings, numpy scalars and small arrays as numbers and lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"A value of type {type(value).__name__} cannot be written as JSON; give numbers, strings, "
        f"lists or dictionaries. Received: {value!r}"
    )


@contextlib.contextmanager
def _explain_full_disk(target: Path, num_bytes: int, reassurance: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not _is_full_disk(error):
            raise
        raise DiskFullError(
            errno.ENOSPC, _full_disk_message(error, target, num_bytes, reassurance)
        ) from error


def _is_full_disk(error: Exception) -> bool:
    # HDF5 and TensorFlow report the cause in their text only.
    if isinstance(error, OSError) and error.errno in _FULL_DISK_ERRORS:
        return True
    return any(os.strerror(number) in str(error) for number in _FULL_DISK_ERRORS)


def _full_disk_message(error: Exception, target: Path, num_bytes: int, reassurance: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    cause = {
        errno.EDQUOT: "Disk quota reached",
        errno.EFBIG: "File size limit reached",
    }.get(number or errno.ENOSPC, "No space left")
    # Twice what is written, so that the next checkpoint fits too.
    amount = f"{max(1, 2 * num_bytes >> 20)} MB" if num_bytes else "some space"
    free = f"free {amount} under {target.parent}, or start in a folder on another disk"
    return f"{cause} while writing {target.name}: {free}" + (
        f"; {reassurance}." if reassurance else "."
    )


def _flush_to_disk(path: Path) -> None:
    """Makes the content outlive a power cut: without it the rename may reach the disk first."""
    if path.is_dir():
        for entry in path.rglob("*"):
            if entry.is_file():
                _fsync(entry)
        return
    _fsync(path)


def _rename_over(partial: Path, target: Path) -> None:
    aside = None
    if target.is_dir() and not target.is_symlink():
        aside = target.with_name(f".{target.name}{PARTIAL_MARK}{os.getpid()}-old")
        remove(aside)
        target.rename(aside)
    partial.replace(target)
    _fsync(target.parent)
    if aside is not None:
        remove(aside)


def _rename_to_new(partial: Path, target: Path) -> None:
    """Renames a folder to a name that is free, or held by an empty folder."""
    try:
        # Between looking and renaming another process may write; of a folder the kernel sees it.
        if target.exists() and not target.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        partial.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED_ERRORS:
            raise
        raise FileExistsError(
            "What is there may not be replaced, and another process may just have written it; give "
            f"another name. Received: {target}"
        ) from None
    _fsync(target.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
