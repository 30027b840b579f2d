"""Sources without random access, unpacked once into the cache folder."""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_ctxattr.data.manifest.table import CollectionError

# By content, since a name may be wrong.
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def default_cache_dir() -> Path:
    """Gives `ctxattr` in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctxattr"


def decompress(path: Path, cache_dir: Path) -> Path:
    """Gives the uncompressed form of a file: itself, or a copy made once in the cache.

    The copy is found again by the file's place, size and time of change.

    Raises:
        CollectionError: If the file is damaged or the copy cannot be written.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    opener = next((opener for start, opener in _OPENERS.items() if head.startswith(start)), None)
    if opener is None:
        return path
    status = path.stat()
    name = name_in_cache(path, status.st_size, status.st_mtime_ns)
    target = cache_dir / "unpacked" / f"{name}.bin"
    if target.is_file():
        return target
    with write_beside(target) as output:
        try:
            with opener(path, "rb") as source:
                shutil.copyfileobj(source, output, 1 << 20)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise CollectionError(
                "A compressed source must be whole and undamaged; copy or download it again. "
                f"Received: {path}: {error}"
            ) from error
    return target


@contextlib.contextmanager
def write_beside(target: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `target` for writing and renames it when all went well.

    Raises:
        CollectionError: If it cannot be written: no permission, or the disk is full.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            yield stream
        beside.replace(target)
    except OSError as error:
        raise CollectionError(
            "`cache_dir` (default: ctxattr in $XDG_CACHE_HOME or ~/.cache) must be a folder that "
            "can be written and has room. "
            f"Received: {target.parent}: {error.strerror or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def name_in_cache(*parts: object) -> str:
    """Gives a file name that depends on all the parts."""
    text = "\0".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
