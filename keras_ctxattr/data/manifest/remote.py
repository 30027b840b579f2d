"""Photographs in an object store (`gs://`, `s3://`, ...): listed and read through fsspec."""

from __future__ import annotations

import dataclasses
import importlib
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from keras_ctxattr.data.manifest.sources import (
    COMPRESSED_TAR_SUFFIXES,
    TAR_SUFFIXES,
    Entry,
    list_tar,
)
from keras_ctxattr.data.manifest.table import CollectionError

_PAUSES = (1.0, 4.0)  # seconds before another try
# Of one object: it is recorded as skipped. Whatever else goes wrong is the store's: the job stops.
_OF_THE_OBJECT = (FileNotFoundError, PermissionError, IsADirectoryError)

_NO_ANSWER = (
    "A store of photographs must answer; look at the network and the credentials, and give the "
    "same command again, it goes on where it stopped. Received: {}: {}"
)


class StoreError(CollectionError):
    """A store that does not answer, which is no fault of an image or an archive. One line."""


def is_url(source: str) -> bool:
    """Tells names like `s3://bucket/folder` from paths, and from `tfds:NAME`."""
    return "://" in source


def list_remote(source: str) -> Iterator[Entry]:
    """Lists the objects below a URL, or the one that it names; `.tar` archives are opened.

    Raises:
        CollectionError: If there is nothing, or the store cannot be reached.
    """
    system, root = open_file_system(source)
    base = root.rstrip("/")
    found = _insist(source, lambda: system.find(base, detail=True))
    for path, facts in sorted(found.items()):
        url, size = system.unstrip_protocol(path), int(facts.get("size") or 0)
        key = path.removeprefix(base).lstrip("/")
        if any(part.startswith(".") for part in key.split("/")[:-1]):  # of hidden folders
            continue
        if path.lower().endswith(TAR_SUFFIXES):
            members = _list_archive(system, path, url, size)
            yield from _prefix(members, key, url) if key else members
        elif path.lower().endswith(COMPRESSED_TAR_SUFFIXES):
            yield _skip_compressed(key, url)
        else:
            name = key or path.rsplit("/", 1)[-1]
            yield Entry(key=name, path=url, length=size, total=size, must_be_image=not key)


def _list_archive(system: Any, path: str, url: str, size: int) -> Iterator[Entry]:
    """Lists an archive; what is wrong with the store is told apart from what is wrong with it."""

    def open_archive() -> tarfile.TarFile:
        return tarfile.open(fileobj=_insist(url, lambda: system.open(path, "rb")), mode="r:")

    try:
        yield from list_tar(open_archive, url, size, url)
    except (CollectionError, *_OF_THE_OBJECT):
        raise
    except Exception as error:
        raise StoreError(_NO_ANSWER.format(url, _in_a_line(error))) from error


def _prefix(members: Iterator[Entry], key: str, url: str) -> Iterator[Entry]:
    """Gives the members of an archive among others; one that is damaged is a reason to skip it."""
    try:
        for member in members:
            yield dataclasses.replace(member, key=f"{key}/{member.key}")
    except StoreError:
        raise
    except (CollectionError, *_OF_THE_OBJECT) as error:
        yield Entry(key=key, path=url, skip=f"unreadable: {error}")


def _skip_compressed(key: str, url: str) -> Entry:
    """Skips a compressed archive among others; one that was named itself is an error."""
    if not key:
        raise CollectionError(
            "An archive at a URL is read at random and must not be compressed; store it as .tar. "
            f"Received: {url}"
        )
    return Entry(key=key, path=url, skip="unreadable: a compressed archive; store it as .tar")


def read_remote(url: str, start: int, count: int) -> bytes:
    """Reads a part of an object.

    Args:
        url: Of the object.
        start: First byte.
        count: Bytes, fewer where it ends before.

    Raises:
        OSError: If there is no such object, or it may not be read.
        StoreError: If the store does not answer.
    """
    system, path = open_file_system(url)
    return _insist(url, lambda: system.cat_file(path, start=start, end=start + count))


def open_file_system(url: str) -> tuple[Any, str]:
    """Gives the file system of fsspec that a URL is in, and the path there.

    Raises:
        CollectionError: If a package for it is missing, or it does not open.
    """
    protocol = url.partition("://")[0]
    try:
        system = importlib.import_module("fsspec").filesystem(protocol)
        return system, system._strip_protocol(url)
    except Exception as error:  # a missing package, an unknown name, no credentials
        raise CollectionError(
            "Photographs at a URL need fsspec and its package for that store (pip install fsspec, "
            f"and s3fs for s3://, gcsfs for gs://). Received: {protocol}://: {_in_a_line(error)}"
        ) from error


def _insist(url: str, ask: Callable[[], Any]) -> Any:
    """Asks a store, some times: what fails for a moment must not be recorded for ever."""
    for pause in _PAUSES:
        try:
            return ask()
        except _OF_THE_OBJECT:
            raise
        except Exception:  # every store has errors of its own
            time.sleep(pause)
    try:
        return ask()
    except _OF_THE_OBJECT:
        raise
    except Exception as error:
        raise StoreError(_NO_ANSWER.format(url, _in_a_line(error))) from error


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
