"""Proposals on disk: the boxes of an image by the digest of its file.

    folder/
      proposals.json     how they were searched, and the versions that began it
      proposals.sqlite   the boxes, a row an image

Images are known by their contents, so that a subset of a collection finds its own, and a file may
be renamed. Every image is a transaction: killed at any moment, those before it are kept.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_ctxattr.runs import write_json
from keras_ctxattr.runs.identity import versions
from keras_ctxattr.runs.writing import json_types

FORMAT = 1
"""Of the folder; raised when a reader of the old one would fail."""

_DESCRIPTION = "proposals.json"
_DATABASE = "proposals.sqlite"
_BUSY_SECONDS = 60.0
_DTYPE = np.dtype("<f4")


class ProposalStore:
    """The folder of proposals, to be asked and filled. Two processes may fill one.

    Args:
        connection: To the database.
        folder: Where it lies, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: str | Path, config: Mapping[str, Any]) -> Iterator[ProposalStore]:
        """Makes a folder, or opens one that was made with the same configuration.

        Args:
            folder: New, empty, or one of proposals.
            config: All that the boxes depend on but the image; JSON types. The versions that are
                written down beside it may change: a newer OpenCV must not cost a finished table.

        Raises:
            ValueError: If it holds something else, or proposals of another configuration; or the
                disk is full.
        """
        path = Path(folder)
        _prepare(path, json_types(dict(config)))
        try:
            connection = sqlite3.connect(path / _DATABASE, _BUSY_SECONDS, isolation_level=None)
            with contextlib.closing(connection):
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS images (digest TEXT PRIMARY KEY, boxes BLOB)"
                )
                yield cls(connection, path)
        except sqlite3.Error as error:
            raise ValueError(
                "Proposals must be kept on a disk that can be written and has room; what was there "
                f"is kept. Received: {path / _DATABASE}: {error}"
            ) from error

    def digests(self) -> set[str]:
        """Gives the digests of all images that are there."""
        return {digest for (digest,) in self._connection.execute("SELECT digest FROM images")}

    def write(self, digest: str, boxes: np.ndarray) -> None:
        """Keeps the boxes of an image, float32 `[n, 4]`."""
        content = np.ascontiguousarray(boxes, _DTYPE).tobytes()
        self._connection.execute("INSERT OR REPLACE INTO images VALUES (?, ?)", (digest, content))

    def read(self, digest: str) -> np.ndarray:
        """Gives the boxes of an image that is there, float32 `[n, 4]`."""
        (content,) = self._connection.execute(
            "SELECT boxes FROM images WHERE digest = ?", (digest,)
        ).fetchone()
        return np.frombuffer(content, _DTYPE).reshape(-1, 4).astype(np.float32)


def _prepare(folder: Path, config: dict[str, Any]) -> None:
    """Writes the description of a new folder, or checks that of an old one."""
    path = folder / _DESCRIPTION
    if not path.exists():
        _check_empty(folder)
        made_with = {**versions(), "opencv": cv2.__version__}
        write_json(path, {"format": FORMAT, "config": config, "versions": made_with})
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        found, written = stored["config"], stored["format"]
    except (OSError, ValueError, KeyError, TypeError):
        found, written = None, None
    if written != FORMAT or not isinstance(found, dict):
        raise ValueError(
            f"Proposals must have a whole {_DESCRIPTION} of format {FORMAT}; name another folder. "
            f"Received: {folder}"
        )
    differences = [
        f"{key}={config.get(key)!r} (there: {found.get(key)!r})"
        for key in sorted(config.keys() | found.keys())
        if config.get(key) != found.get(key)
    ]
    if differences:
        raise ValueError(
            "A folder of proposals must go on with the configuration it was begun with; name "
            f"another folder. Received: {', '.join(differences)} in {folder}"
        )


def _check_empty(folder: Path) -> None:
    """Refuses other people's files; hidden ones may be our own first traces."""
    is_file = folder.exists() and not folder.is_dir()
    others = [] if is_file else sorted(entry.name for entry in folder.glob("[!.]*"))
    if is_file or others:
        raise ValueError(
            "Proposals need a folder that is new or empty, or their own. Received: "
            f"{folder}, {'a file' if is_file else 'which holds ' + others[0]}"
        )
